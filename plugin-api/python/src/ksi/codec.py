"""JSON as it goes to the host: strict, compact, UTF-8. With ``orjson`` if the plugin has it.

What has JSON is the same with and without it, but for NaN and infinity in what is encoded: they are
null with it. It takes UUIDs and enums whatever it is told, so that all of this does.
"""

from __future__ import annotations

import enum
import json
import json.decoder
import json.encoder
import math
import uuid
from collections.abc import Callable
from typing import Any, NoReturn

#: How deep the place of a mistake is looked for.
_DEPTH = 64
#: What digits and signs stand out by, and so many of them that ``orjson`` may read a float there.
_DIGITS = bytes(48 if byte in b"0123456789-" else 32 for byte in range(256))
_LARGE = b"0" * 20


class NotJson(ValueError):
    """A value has no JSON. The message says where in it, and what is there."""


def _is_no_json(value: object) -> NoReturn:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _simpler(value: object) -> Any:
    """What the standard encoder takes in the place of what ``orjson`` takes itself."""
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, uuid.UUID) else _is_no_json(value)


def _standard_encoder() -> Callable[[Any], bytes]:
    public = json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_simpler
    ).encode
    make = getattr(json.encoder, "c_make_encoder", None)
    escape = getattr(json.encoder, "encode_basestring", None)
    # The public encoder makes this anew for each value, which takes as long as a small value does.
    try:
        encode = make(None, _simpler, escape, None, ":", ",", False, False, False)  # type: ignore[misc]
        if "".join(encode({"a": [1, None]}, 0)) != '{"a":[1,null]}':
            raise TypeError
    except Exception:
        return lambda value: public(value).encode()
    return lambda value: "".join(encode(value, 0)).encode()


def _is_no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _standard_decoder() -> Callable[[bytes], Any]:
    decoder = json.decoder.JSONDecoder(parse_constant=_is_no_number)
    scan = decoder.scan_once  # type: ignore[attr-defined]

    def decode(text: bytes) -> Any:
        shown = str(text, "utf-8")
        try:
            value, end = scan(shown, 0)
            if end == len(shown):
                return value
        except StopIteration:
            pass
        # With space around it, or with a mistake, which is told by this.
        return decoder.decode(shown)

    return decode


_encode = _standard_encoder()
_decode = _standard_decoder()


def use_orjson() -> bool:
    """Uses ``orjson`` from here on, if it can be imported."""
    global _encode, _decode
    try:
        import orjson
    except ImportError:
        return False
    # What the standard encoder has no JSON for has none either way.
    options = (
        orjson.OPT_PASSTHROUGH_DATACLASS
        | orjson.OPT_PASSTHROUGH_DATETIME
        | orjson.OPT_PASSTHROUGH_SUBCLASS
    )
    standard, dumps, default = _encode, orjson.dumps, _is_no_json

    def encode(value: Any) -> bytes:
        try:
            return bytes(dumps(value, default, options))
        except TypeError:
            # Large integers, keys that are no texts and subclasses it does not take.
            return standard(value)

    exactly, loads = _decode, orjson.loads

    def decode(text: bytes) -> Any:
        try:
            value = loads(text)
        except ValueError:
            # A number of hundreds of digits. For all else this tells the mistake.
            return exactly(text)
        # An integer beyond 64 bits is a float there, and nobody is told.
        return exactly(text) if len(text) >= 20 and _has_large(value, text) else value

    _encode, _decode = encode, decode
    return True


def _has_large(value: Any, text: bytes) -> bool:
    """Whether a text may have integers that ``orjson`` has read as floats, looked for in the way
    that takes least."""
    most = len(text) >> 8
    if most < 4:
        return text.translate(_DIGITS).find(_LARGE) >= 0
    # Few values, and long texts: each value.
    values = [value]
    for it in values:
        kind = type(it)
        if kind is float:
            if abs(it) >= 1 << 63:
                return True
        elif kind is dict or kind is list:
            if len(values) + len(it) > most:
                break
            values += it.values() if kind is dict else it
    else:
        return False
    # Many values: each fifth byte, of which so many digits in a row have four.
    if text[::5].translate(_DIGITS).find(_LARGE[:4]) < 0:
        return False
    return text.translate(_DIGITS).find(_LARGE) >= 0


def loads(text: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, or nested too deep to be read.
    """
    try:
        return _decode(text)
    except RecursionError:
        raise ValueError("it is nested too deep to be read") from None


def dumps(value: Any, what: str = "the value") -> bytes:
    """The JSON of a value.

    Raises:
        NotJson: it has none; ``what`` it is, for people.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        place = find_fault(value) or str(error)
        raise NotJson(f"{what} is no JSON: {place}") from None


def find_fault(value: Any, *, comes_back: bool = False) -> str | None:
    """Where a value has something that has no JSON: its path, and what is there.

    With ``comes_back`` keys that are no texts, UUIDs and enums are faults too: they would come back
    as something else.
    """
    return _find(value, "", 0, set(), comes_back)


def find_other_type(value: Any, path: str = "") -> str | None:
    """Where a value that has JSON has something that would come back as another type."""
    found = type(value)
    for plain in (bool, int, float, str, dict, list):
        if isinstance(value, plain) and found is not plain:
            return _other_type(path, found, plain)
        if found is plain:
            break
    if isinstance(value, tuple):
        return _other_type(path, found, list)
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        fault = find_other_type(item, f"{path}[{key!r}]")
        if fault:
            return fault
    return None


def _other_type(path: str, found: type, plain: type) -> str:
    at = path or "the value itself"
    return f"{at} is of the type {found.__name__}, and would come back as {plain.__name__}"


def _find(value: Any, path: str, depth: int, above: set[int], strict: bool) -> str | None:
    at = path or "the value itself"
    if value is None or isinstance(value, (bool, int)):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{at} is {value}, which JSON has no number for"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{at} is a text that has no UTF-8"
        return None
    if isinstance(value, enum.Enum) and not strict:
        return _find(value.value, path, depth + 1, above, strict)
    if isinstance(value, uuid.UUID) and not strict:
        return None
    if not isinstance(value, (dict, list, tuple)):
        return f"{at} is a {type(value).__name__}"
    if id(value) in above:
        return f"{at} is in itself"
    if depth > _DEPTH:
        return f"{at} lies more than {_DEPTH} deep"
    above.add(id(value))
    try:
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str) and (
                    strict or not (key is None or isinstance(key, (bool, int, float)))
                ):
                    return f"a key in {at} is the {type(key).__name__} {key!r}, and no text"
                fault = _find(item, f"{path}[{key!r}]", depth + 1, above, strict)
                if fault:
                    return fault
            return None
        for index, item in enumerate(value):
            fault = _find(item, f"{path}[{index}]", depth + 1, above, strict)
            if fault:
                return fault
        return None
    finally:
        above.discard(id(value))
