"""JSON Schemas of types, for people: what a handler's data looks like."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from typing import Any, Union

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    dict: {"type": "object"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    set: {"type": "array"},
    bytes: {"type": "string"},
    type(None): {"type": "null"},
}
_DEPTH = 8
_UNIONS = (Union, getattr(types, "UnionType", Union))


def of_data(func: Callable[..., Any], schema: Any = None) -> dict[str, Any] | None:
    """The schema of a handler's data: of its first parameter, if ``schema`` is none."""
    if isinstance(schema, dict):
        return schema
    if schema is not None:
        return of(schema)
    hints = _hints(func)
    code = getattr(func, "__code__", None)
    names = list(code.co_varnames[: code.co_argcount]) if code else []
    return of(hints[names[0]]) if names and names[0] in hints else None


def of_reply(func: Callable[..., Any]) -> dict[str, Any] | None:
    """The schema of a handler's reply."""
    hints = _hints(func)
    found = of(hints["return"]) if "return" in hints else None
    return None if found == {"type": "null"} else found


def of(annotation: Any, depth: int = 0) -> dict[str, Any] | None:
    """The schema of a type; ``None`` for what says nothing."""
    if annotation is Any or depth > _DEPTH:
        return None
    plain = _PLAIN.get(annotation) if _hashable(annotation) else None
    if plain is not None:
        return dict(plain)
    if _is_typed_dict(annotation):
        return _typed_dict(annotation, depth)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return {"enum": [it.value for it in annotation]}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return None
    if getattr(origin, "_name", "") in ("Required", "NotRequired", "ReadOnly"):
        return of(arguments[0], depth)
    if getattr(annotation, "__metadata__", None):
        return of(arguments[0], depth)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in _UNIONS:
        return _union(list(arguments), depth)
    if origin in (list, set, frozenset) or getattr(origin, "__name__", "") in (
        "Sequence",
        "Iterable",
    ):
        items = of(arguments[0], depth + 1) if arguments else None
        return {"type": "array", "items": items} if items else {"type": "array"}
    if origin is tuple:
        return {"type": "array"}
    if origin is dict or getattr(origin, "__name__", "") in ("Mapping", "MutableMapping"):
        values = of(arguments[1], depth + 1) if len(arguments) == 2 else None
        return {"type": "object", "additionalProperties": values} if values else {"type": "object"}
    return None


def _union(members: list[Any], depth: int) -> dict[str, Any] | None:
    schemas = [of(member, depth + 1) for member in members]
    found = [schema for schema in schemas if schema is not None]
    if len(found) < len(members):
        return None
    return found[0] if len(found) == 1 else {"anyOf": found}


def _typed_dict(annotation: Any, depth: int) -> dict[str, Any]:
    hints = _hints(annotation)
    properties = {name: of(hint, depth + 1) or {} for name, hint in hints.items()}
    required = set(getattr(annotation, "__required_keys__", properties))
    # Where annotations are texts, those that say so themselves are in the wrong set.
    for name, hint in hints.items():
        mark = getattr(typing.get_origin(hint), "_name", "")
        if mark == "Required":
            required.add(name)
        elif mark == "NotRequired":
            required.discard(name)
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    schema["required"] = [name for name in properties if name in required]
    text = annotation.__doc__ if annotation.__doc__ != dict.__doc__ else None
    if text:
        schema["description"] = text.strip().split("\n\n")[0]
    return schema


def _hints(of_what: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(of_what, include_extras=True)
    except Exception:
        # A name that is only there for type checkers, or none at all.
        return {}


def _is_typed_dict(annotation: Any) -> bool:
    return (
        isinstance(annotation, type)
        and hasattr(annotation, "__total__")
        and issubclass(annotation, dict)
    )


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
