"""Filters for ``event_handler(..., filter_func=...)``."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

__all__ = [
    "RateLimiter",
    "rate_limit_100_per_minute",
    "rate_limit_1000_per_hour",
    "rate_limit_10_per_second",
]

#: Agents and events that are counted apart.
_KEYS = 10_000


class RateLimiter:
    """Lets so many events of one name and agent through within so many seconds."""

    def __init__(self, max_events: int = 10, window_seconds: float = 1.0) -> None:
        self.max_events = max_events
        self.window_seconds = window_seconds
        self._passed: dict[tuple[str, Any], deque[float]] = {}

    def __call__(self, event: str, data: Any, context: Any = None) -> bool:
        """Whether this one passes."""
        now = time.monotonic()
        key = (event, (context or {}).get("_agent_id"))
        if len(self._passed) >= _KEYS and key not in self._passed:
            self._passed.clear()
        passed = self._passed.setdefault(key, deque())
        while passed and now - passed[0] >= self.window_seconds:
            passed.popleft()
        if len(passed) >= self.max_events:
            return False
        passed.append(now)
        return True


rate_limit_10_per_second = RateLimiter(10, 1.0)
rate_limit_100_per_minute = RateLimiter(100, 60.0)
rate_limit_1000_per_hour = RateLimiter(1000, 3600.0)
