"""Names of events and patterns over them, by the host's rules, so that a mistake is told where it
was written; and names of handlers."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The longest name or pattern, in bytes.
MAX_NAME_LEN = 256

_SEGMENT = re.compile(r"[A-Za-z0-9_.-]+")
_NAME = re.compile(r"[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.-]+)+")


class EventNameError(ValueError):
    """A text is no event name, or no pattern over names."""


def check_name(name: str) -> None:
    """Whether this is an event name: ``namespace:name``, more segments allowed.

    Raises:
        EventNameError: with what is wrong.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME_LEN:
        raise EventNameError(f"{_shown(name)} is no event name: {_fault(name, pattern=False)}")


def check_pattern(pattern: str) -> None:
    """Whether this is an event name or a pattern: ``*`` stands for one whole segment, ``**`` for
    any number of them, and ``*`` alone for every event.

    Raises:
        EventNameError: with what is wrong.
    """
    fault = pattern_fault(pattern)
    if fault:
        raise EventNameError(f"{_shown(pattern)} is no event name or pattern: {fault}")


def pattern_fault(text: object) -> str:
    """What keeps this from being an event name or a pattern; empty if nothing does."""
    return _fault(text, pattern=True)


def matches(pattern: str, name: str) -> bool:
    """Whether a name is one of those that a pattern stands for."""
    if "*" not in pattern:
        return pattern == name
    if pattern == "*":
        return True
    segments = name.split(":")
    # reached[i]: what was looked at of the pattern stands for the first i segments of the name.
    reached = [True] + [False] * len(segments)
    for part in pattern.split(":"):
        if part == "**":
            for i in range(1, len(reached)):
                reached[i] = reached[i] or reached[i - 1]
        else:
            fits = [part in ("*", segment) for segment in segments]
            reached = [False] + [before and fit for before, fit in zip(reached, fits, strict=False)]
    return reached[-1]


def unique_names(functions: Sequence[tuple[str, str]]) -> list[str]:
    """Names of handlers, each once: that of its function, the qualified one if that occurs more
    often, and a number behind it from the second of these on.

    Args:
        functions: Name and qualified name of each, in the order of declaration.
    """
    plain = [name for name, _ in functions]
    chosen = [
        name if plain.count(name) == 1 else qualified.replace("<locals>.", "")
        for name, qualified in functions
    ]
    taken: set[str] = set()
    names = []
    for name in chosen:
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique)
        names.append(unique)
    return names


def _fault(text: object, *, pattern: bool) -> str:
    if not isinstance(text, str):
        return f"it is a {type(text).__name__} and no text"
    if len(text.encode("utf-8", "replace")) > MAX_NAME_LEN:
        return f"it is longer than {MAX_NAME_LEN} bytes"
    if pattern and text == "*":
        return ""
    segments = text.split(":")
    for segment in segments:
        if pattern and segment in ("*", "**"):
            continue
        if not segment:
            return "it has an empty segment" if text else "it is empty"
        if "*" in segment:
            if pattern:
                return f"in {segment!r} the '*' must be the whole segment"
            return "it is a pattern, and one event has one name"
        if not _SEGMENT.fullmatch(segment):
            stranger = next(c for c in segment if not _SEGMENT.fullmatch(c))
            return (
                f"{stranger!r} is not allowed in it (letters, digits, '_', '-' and '.' are, and "
                "':' between its parts)"
            )
    if len(segments) == 1 and "*" not in text:
        return 'it needs a namespace, as in "greet:request"'
    return ""


def _shown(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= MAX_NAME_LEN else shown[:MAX_NAME_LEN] + "…"
