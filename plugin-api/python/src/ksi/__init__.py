"""Plugins for the ksi event host, written in Python. See :mod:`ksi.events`."""

from .events import (
    EventHandler,
    EventNameError,
    EventPriority,
    EventRefused,
    RefusalCode,
    emit_event,
    emit_event_first,
    event_handler,
    send_event,
)
from .router import EventRouter, get_router

__version__ = "0.1.0"

__all__ = [
    "EventHandler",
    "EventNameError",
    "EventPriority",
    "EventRefused",
    "EventRouter",
    "RefusalCode",
    "emit_event",
    "emit_event_first",
    "event_handler",
    "get_router",
    "send_event",
]
