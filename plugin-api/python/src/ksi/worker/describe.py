"""What a plugin says of itself, once it is open: the body of OPENED."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from .. import schemas
from ..loader import Declared
from .watches import host_priority


def description(
    handlers: list[Declared], state: dict[str, list[int]] | None, keep: list[str]
) -> dict[str, Any]:
    """The handlers in the order of their numbers, and what else only running the file tells."""
    return {
        "handlers": [_handler(it) for it in handlers],
        "emits": [],
        "state": state,
        "keep": keep,
        "python": {
            "version": ".".join(map(str, sys.version_info[:3])),
            "executable": sys.executable,
        },
    }


def _handler(declared: Declared) -> dict[str, Any]:
    handler = declared.handler
    text = inspect.getdoc(handler.func) or ""
    return {
        "name": declared.name,
        "summary": " ".join(text.split("\n\n")[0].split()),
        "payload": schemas.of_data(handler.func, handler.schema),
        "reply": schemas.of_reply(handler.func),
        "subscriptions": handler.events,
        "priority": host_priority(handler.priority),
        "timeout_ms": max(1, round(handler.timeout * 1000)) if handler.timeout else 0,
        "blocking": not handler.is_async,
    }
