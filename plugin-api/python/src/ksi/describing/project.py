"""What a plugin says of itself beside its code: in ``pyproject.toml`` or the head of its file."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from ..names import pattern_fault
from .faults import Mistake

_SCRIPT = re.compile(r"(?m)^# /// script[ \t]*$\n((?:^#(?: .*)?$\n)*?)^# ///[ \t]*$")
#: What `[tool.ksi]` may have, and `[tool.ksi.pluggy]`.
_KEYS = ("name", "module", "kind", "keep", "requires", "exclusive", "trial", "pluggy")
_PLUGGY_KEYS = (
    *("project", "prefix", "hookspecs", "plugins", "entry_points", "block", "manager"),
    *("state", "events", "event_names"),
)
_KINDS = ("module", "pluggy")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def block_of(path: str, shown: str, said: dict[str, Any] | None) -> dict[str, Any]:
    """What the block of a module says, which may have been read.

    Raises:
        Mistake: it has two, or says what is no TOML.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read().replace("\r\n", "\n")
    blocks = list(_SCRIPT.finditer(text))
    if len(blocks) > 1:
        line = text.count("\n", 0, blocks[1].start()) + 1
        message = "a second block of PEP 723, and a file may have one"
        raise Mistake(message, line, 1, "# /// script", shown)
    if said is not None:
        return said
    block = "\n".join(it[2:] for it in blocks[0][1].splitlines()) if blocks else ""
    return read_toml(block) if block else {}


def check_name(name: str, way_out: str) -> None:
    """Whether a plugin may have this name. A host says so too, but not what is to be done.

    Raises:
        Mistake: none may, with the way out.
    """
    if not _NAME.fullmatch(name):
        raise Mistake(
            f"{name!r} is no plugin name: it takes 1 to 64 of the characters A-Z, a-z, 0-9, _ and "
            f"-, the first a letter or digit; {way_out}"
        )


class Table:
    """A table of TOML. What is taken of it is of the kind that belongs there."""

    def __init__(self, values: dict[str, Any], where: str, path: str = "") -> None:
        self.values, self._where, self._path = values, where, path

    def only(self, known: tuple[str, ...]) -> None:
        """Whether it has nothing else, which would mean nothing.

        Raises:
            Mistake: it has, with what may be meant.
        """
        for key in self.values:
            if key not in known:
                raise Mistake(
                    f"{self._where} has {self._path}{key}, which means nothing: {_meant(key, known)}"
                )

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        return str(self._get(key, "", "a text", str))

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._get(key, default, "true or false", bool))

    def texts(self, key: str) -> list[str] | None:
        """``None`` if nothing is said."""
        found = self._get(key, None, "a list of texts", list)
        if found is not None and not all(isinstance(it, str) for it in found):
            self._wrong(key, "a list of texts")
        return found  # type: ignore[no-any-return]

    def text_or_texts(self, key: str) -> list[str] | None:
        found = self.values.get(key)
        return [found] if isinstance(found, str) else self.texts(key)

    def table(self, key: str) -> Table:
        return Table(self._get(key, {}, "a table", dict), self._where, f"{self._path}{key}.")

    def _get(self, key: str, default: Any, kind: str, of: type) -> Any:
        found = self.values.get(key)
        if found is None:
            return default
        if not isinstance(found, of):
            self._wrong(key, kind)
        return found

    def _wrong(self, key: str, kind: str) -> None:
        found = f"{self.values[key]!r:.80}"
        raise Mistake(f"{self._where} has {self._path}{key} = {found}, where {kind} belongs")


def _meant(given: str, known: tuple[str, ...]) -> str:
    import difflib  # It is not needed where all is well.

    near = difflib.get_close_matches(given.replace("-", "_"), known, 1)
    return f"did you mean `{near[0]}`?" if near else f"there are {', '.join(sorted(known))}"


def settings_of(project: Table) -> Table:
    """The table of a plugin, which says of itself nothing that is not understood.

    Raises:
        Mistake: it does.
    """
    settings = project.table("tool").table("ksi")
    settings.only(_KEYS)
    kind = settings.text("kind")
    if kind and kind not in _KINDS:
        raise Mistake(f"tool.ksi.kind is {kind!r}, and no plugin is that: {_meant(kind, _KINDS)}")
    return settings


def required(settings: Table) -> list[str]:
    names = settings.texts("requires") or []
    for name in names:
        fault = "it is a pattern, and one event has one name" if "*" in name else ""
        fault = fault or pattern_fault(name)
        if fault:
            raise Mistake(f"tool.ksi.requires has {name!r}, which is no event name: {fault}")
    return names


def pluggy(settings: Table) -> dict[str, Any]:
    """What is said of plugins of pluggy, as the worker reads it."""
    said = settings.table("pluggy")
    said.only(_PLUGGY_KEYS)
    for key in ("project", "prefix", "manager", "state"):
        said.text(key)
    for key in ("hookspecs", "plugins", "entry_points", "block", "event_names"):
        said.text_or_texts(key)
    events = said.table("events")
    for event in events.values:
        events.text(event)
    if settings.text("kind") != "pluggy":
        if said.values:
            raise Mistake('tool.ksi.pluggy is for plugins of pluggy: those say kind = "pluggy"')
    elif not any(said.has(key) for key in ("plugins", "entry_points", "manager")):
        raise Mistake(
            "it is of the kind pluggy, and no plugins are named: [tool.ksi.pluggy] takes `plugins`, "
            "`entry_points` or a `manager`"
        )
    return said.values


def entry_of(path: str, said: str, name: str) -> str:
    names = [said] if said else [name, name.replace("-", "_"), "plugin", "main"]
    for it in names:
        stem = it if it.endswith(".py") else it.replace(".", os.sep)
        for folder in ("", "src"):
            for found in (stem, f"{stem}.py", os.path.join(stem, "__init__.py")):
                entry = os.path.join(folder, found)
                if found.endswith(".py") and os.path.isfile(os.path.join(path, entry)):
                    return entry
    wanted = (
        f"module = {said!r}" if said else "no `module`, and there is none called as the project"
    )
    raise Mistake(f"[tool.ksi] in its pyproject.toml has {wanted}: which file is the plugin?")


def satisfies(version: tuple[int, ...], wanted: str) -> bool:
    """Whether an interpreter is one that ``requires-python`` asks for. What it cannot read it
    lets pass."""
    for clause in filter(None, (it.strip() for it in wanted.split(","))):
        match = re.fullmatch(r"(===?|~=|!=|<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)*)(\.\*)?", clause)
        if match is None:
            continue
        operator, digits, star = match.groups()
        other = tuple(map(int, digits.split(".")))
        length = max(len(version), len(other))
        ours = version + (0,) * (length - len(version))
        theirs = other + (0,) * (length - len(other))
        same = ours[: len(other)] == other if star else ours == theirs
        fits = {
            "==": same,
            "===": same,
            "!=": not same,
            "<": ours < theirs,
            ">": ours > theirs,
            "<=": ours <= theirs,
            ">=": ours >= theirs,
            "~=": ours >= theirs and ours[: len(other) - 1] == other[:-1],
        }
        if not fits[operator]:
            return False
    return True


def read_toml(text: str) -> dict[str, Any]:
    """Reads TOML for whoever has not read it yet, as a host has. CPython 3.10 has no reader."""
    if sys.version_info >= (3, 11):
        import tomllib

        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise Mistake(f"what it needs is written in no TOML: {error}") from None
    raise Mistake("what it says of itself is TOML, which Python reads from 3.11 on")
