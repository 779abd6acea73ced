"""Replies in the form that KSI's modules give."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

__all__ = [
    "METADATA",
    "async_response",
    "error_response",
    "event_response_builder",
    "list_response",
    "success_response",
]

#: Keys of a context that a reply repeats.
METADATA = (
    "_agent_id",
    "_client_id",
    "_correlation_id",
    "_event_depth",
    "_event_id",
    "_parent_event_id",
    "_root_event_id",
)

Context = Mapping[str, Any]


def event_response_builder(
    data: Any, context: Context | None = None, include_metadata: bool = True
) -> dict[str, Any]:
    """A reply: the data, ``status`` if it has none, and whose event it answers.

    Data that is no object stands under ``result``.
    """
    response = dict(data) if isinstance(data, Mapping) else {"result": data}
    if include_metadata:
        response.setdefault("status", "success")
        response["_timestamp"] = time.time()
        response["_response_id"] = f"resp_{uuid.uuid4().hex[:8]}"
    for key in METADATA:
        if context and context.get(key) is not None:
            response.setdefault(key, context[key])
    return response


def success_response(
    data: Any = None, context: Context | None = None, message: str | None = None
) -> dict[str, Any]:
    """A reply that says that it went well."""
    response: dict[str, Any] = {}
    if isinstance(data, Mapping):
        response.update(data)
    elif data is not None:
        response["result"] = data
    if message:
        response["message"] = message
    return event_response_builder(response, context)


def error_response(
    error: str | BaseException,
    context: Context | None = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A reply that says what went wrong. To the host it is a reply like any other."""
    return event_response_builder(
        {"error": str(error), "status": "failed", **(details or {})}, context
    )


def async_response(
    request_id: str, context: Context | None = None, status: str = "queued", **more: Any
) -> dict[str, Any]:
    """A reply to what is done later, with the number by which its end is known again."""
    return event_response_builder({"request_id": request_id, "status": status, **more}, context)


def list_response(
    items: list[Any],
    context: Context | None = None,
    count_field: str = "count",
    items_field: str = "items",
) -> dict[str, Any]:
    """A reply with a list, and how many there are."""
    return event_response_builder({items_field: items, count_field: len(items)}, context)
