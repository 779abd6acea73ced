"""Counters by name: `counter:change` adds to one, `counter:read` reads one or all.

    $ ksi run --plugins examples/python
    $ ksi emit counter:change '{"name": "visits", "by": 2}'

What it knows lies in `_state`, which goes along when this file is changed while the host runs.
"""

from typing import Any, Dict, Literal, TypedDict

from ksi.events import emit_event, event_handler

# By name.
_state: Dict[str, int] = {}


class _Named(TypedDict):
    name: str


class Change(_Named, total=False):
    """What `counter:change` takes."""

    by: int
    operation: Literal["add", "reset"]


class Which(TypedDict, total=False):
    """What `counter:read` takes: all counters if it has no name."""

    name: str


@event_handler("counter:change")
async def change(data: Change) -> Dict[str, Any]:
    """Adds to a counter, or sets it to 0."""
    name = data["name"]
    if data.get("operation", "add") == "reset":
        _state.pop(name, None)
    else:
        _state[name] = _state.get(name, 0) + data.get("by", 1)
    value = _state.get(name, 0)
    await emit_event("counter:changed", {"name": name, "value": value})
    return {"name": name, "value": value}


@event_handler("counter:read")
async def read(data: Which) -> Dict[str, Any]:
    """One counter, or all of them."""
    if "name" in data:
        return {"name": data["name"], "value": _state.get(data["name"], 0)}
    return {"counters": dict(sorted(_state.items()))}


@event_handler("module:shutdown")
async def say_goodbye(data: Dict[str, Any]) -> None:
    """Tells what it knew."""
    await emit_event("counter:closing", {"counters": len(_state)})
    _state.clear()
