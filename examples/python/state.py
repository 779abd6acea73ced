"""Values by namespace and key, as `plugins/state` has them in Rust: the same events, the same replies,
and state that each of the two can read.

    $ ksi run --plugins examples/python
    $ ksi emit state:update '{"namespace": "shop", "key": "open", "value": true}'

| event | payload | reply |
|---|---|---|
| `state:set` | `namespace`, `key`, `value` | `{"status": "set"}` |
| `state:get` | `namespace`, `key` | `{"value": ..}`; `{"value": null, "found": false}` without it |
| `state:delete` | `namespace`, `key` | `{"status": "deleted"}`, or `{"status": "not_found"}` |
| `state:list` | `namespace`? | `{"keys": [..]}`, or `{"namespaces": [..]}` without a namespace |
| `state:update` | `operation` (`set` if it is left out, `get`, `delete`, `list`) | that of the operation |

It has no bounds for what is stored, where the other one has some, and its errors have other codes.
"""

from typing import Any, Dict, Literal, TypedDict

from ksi.events import emit_event, event_handler, send_event

_values: Dict[str, Dict[str, Any]] = {}


class Where(TypedDict):
    """Of one value."""

    namespace: str
    key: str


class Entry(Where):
    """What `state:set` takes."""

    value: Any


class Which(TypedDict, total=False):
    """What `state:list` takes."""

    namespace: str


class Update(Which, total=False):
    """What `state:update` takes."""

    operation: Literal["set", "get", "delete", "list"]
    key: str
    value: Any


@event_handler("state:update")
async def update(data: Update) -> Dict[str, Any]:
    """Sets, gets, deletes or lists, as `operation` says."""
    operation = data.get("operation", "set")
    needs = _OPERATIONS[operation][1]
    for field in needs:
        if field not in data:
            raise KeyError(f'the operation {operation} needs a "{field}"')
    return await _OPERATIONS[operation][0](data)


@event_handler("state:set")
async def set_value(data: Entry) -> Dict[str, Any]:
    """Stores a value."""
    namespace, key, value = _name(data, "namespace"), _name(data, "key"), data["value"]
    keys = _values.setdefault(namespace, {})
    changed = {"namespace": namespace, "key": key, "value": value}
    if key in keys:
        changed["previous"] = keys[key]
    keys[key] = value
    # Sent, so that a slow listener does not make the setter slow.
    await send_event("state:changed", changed)
    return {"status": "set"}


@event_handler("state:get")
async def get_value(data: Where) -> Dict[str, Any]:
    """Reads a value."""
    keys, key = _values.get(_text(data, "namespace"), {}), _text(data, "key")
    return {"value": keys[key]} if key in keys else {"value": None, "found": False}


@event_handler("state:delete")
async def delete(data: Where) -> Dict[str, Any]:
    """Removes a value."""
    namespace, key = _text(data, "namespace"), _text(data, "key")
    keys = _values.get(namespace, {})
    if key not in keys:
        return {"status": "not_found"}
    previous = keys.pop(key)
    if not keys:
        del _values[namespace]
    deleted = {"namespace": namespace, "key": key, "previous": previous}
    await send_event("state:deleted", deleted)
    return {"status": "deleted"}


@event_handler("state:list")
async def list_names(data: Which) -> Dict[str, Any]:
    """Lists the keys of a namespace, or all namespaces."""
    if data.get("namespace") is None:
        return {"namespaces": sorted(_values)}
    return {"keys": sorted(_values.get(_text(data, "namespace"), {}))}


@event_handler("module:shutdown")
async def say_goodbye(data: Dict[str, Any]) -> None:
    """Says what is there before it goes."""
    keys = sum(map(len, _values.values()))
    await emit_event("state:persisting", {"namespaces": len(_values), "keys": keys})


def snapshot() -> Dict[str, Any]:
    """What the other one writes, too."""
    return {"namespaces": _values}


def restore(data: Dict[str, Any]) -> None:
    _values.clear()
    _values.update(data["namespaces"])


def _name(data: Any, field: str) -> str:
    name = _text(data, field)
    if not 0 < len(name.encode()) <= 1024:
        raise ValueError(f"the {field} is a text of 1 to 1024 bytes")
    return name


def _text(data: Any, field: str) -> str:
    text = data[field]
    if not isinstance(text, str):
        raise TypeError(f"the {field} is a text")
    return text


_OPERATIONS = {
    "set": (set_value, ("namespace", "key", "value")),
    "get": (get_value, ("namespace", "key")),
    "delete": (delete, ("namespace", "key")),
    "list": (list_names, ()),
}
