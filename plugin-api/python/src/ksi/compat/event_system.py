"""What KSI's modules import of ``ksi_daemon.event_system``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .. import events
from .._ksi_context import with_context
from ..events import EventPriority, Filter, emit_event, emit_event_first
from ..filters import (
    RateLimiter,
    rate_limit_10_per_second,
    rate_limit_100_per_minute,
    rate_limit_1000_per_hour,
)
from ..router import EventRouter, get_router
from ..service import background_task, service_provider, shutdown_handler

F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "EventHandler",
    "EventPriority",
    "EventRouter",
    "RateLimiter",
    "background_task",
    "emit_event",
    "emit_event_first",
    "event_handler",
    "get_router",
    "rate_limit_100_per_minute",
    "rate_limit_1000_per_hour",
    "rate_limit_10_per_second",
    "service_provider",
    "shutdown_handler",
]


class EventHandler(events.EventHandler):
    """A handler that reads the context in what the event carries, too."""

    @property
    def takes_data_alone(self) -> bool:
        return False

    def arguments(self, data: Any, context: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return super().arguments(with_context(data, context), context)


def event_handler(
    event: str,
    priority: int = EventPriority.NORMAL,
    filter_func: Filter | None = None,
    *,
    timeout: float | None = None,
    schema: Any = None,
) -> Callable[[F], F]:
    """As :func:`ksi.events.event_handler`, for such a handler."""
    return events.declaring(EventHandler, event, priority, filter_func, timeout, schema)
