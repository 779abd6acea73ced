"""The context of an event among what it carries, where KSI's modules read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_KEY: Final = "_ksi_context"


def with_context(data: Any, context: Mapping[str, Any] | None) -> Any:
    """What an event carries, with its context, if both are there. A plain object: modules keep it
    in their state, and nothing is kept of the event by it."""
    if type(data) is not dict or context is None or "_event_id" not in context:
        return data
    return {**data, _KEY: dict(context)}


def without_context(data: Any) -> Any:
    """What is emitted, without that of the event that it was taken from: it gets its own. KSI's
    references are replaced as well."""
    if type(data) is not dict or _KEY not in data:
        return data
    found = data[_KEY]
    is_one = isinstance(found, dict) and "_event_id" in found
    if not is_one and not (isinstance(found, str) and found.startswith("ctx_")):
        return data
    return {key: value for key, value in data.items() if key != _KEY}
