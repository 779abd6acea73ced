"""What KSI's modules import of ``ksi_daemon.event_system``."""

from ..events import (
    EventHandler,
    EventPriority,
    emit_event,
    emit_event_first,
    event_handler,
)
from ..filters import (
    RateLimiter,
    rate_limit_10_per_second,
    rate_limit_100_per_minute,
    rate_limit_1000_per_hour,
)
from ..router import EventRouter, get_router
from ..service import background_task, service_provider, shutdown_handler

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
