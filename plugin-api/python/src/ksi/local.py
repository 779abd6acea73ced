"""The events of a module without a host: its handlers are called in this process.

For tests of a module by itself. What a host bounds, times and restores is not there.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from . import _link
from ._ksi_context import without_context
from .events import EventHandler
from .names import check_name, matches
from .refusals import EventRefused, RefusalCode
from .watching import Events, PassedEvent

_log = logging.getLogger(__name__)
_parent: ContextVar[dict[str, Any] | None] = ContextVar("ksi_local_event", default=None)


class LocalLink:
    """Calls the handlers that this process has declared."""

    config: Any = None
    is_trial = False

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._watches: list[tuple[Sequence[str], Events]] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def emit(
        self,
        name: str,
        data: Any,
        context: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> list[Any]:
        check_name(name)
        data, inner = without_context(data), self._context(name, context)
        for patterns, events in self._watches:
            if any(matches(pattern, name) for pattern in patterns):
                events.add(PassedEvent(name, data, dict(inner)), 0)
        handlers = [it for it in _link.declared if matches(it.event, name)]
        handlers.sort(key=lambda it: it.priority)
        calls = (self._call(handler, name, data, inner) for handler in handlers)
        ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), timeout)
        replies = []
        for handler, end in zip(handlers, ends, strict=True):
            if isinstance(end, BaseException):
                _log.error("handler %s of %s failed: %r", handler.name, name, end)
            elif end is not None:
                replies.append(end)
        return replies

    async def send(self, name: str, data: Any, context: Mapping[str, Any] | None = None) -> None:
        await self.emit(name, data, context)

    @asynccontextmanager
    async def watch(self, patterns: Sequence[str], capacity: int) -> AsyncIterator[Events]:
        entry = (patterns, Events(capacity, 32 << 20))
        self._watches.append(entry)
        try:
            yield entry[1]
        finally:
            self._watches.remove(entry)

    def subscribe(self, handler: EventHandler) -> None:
        if handler not in _link.declared:
            _link.declared.append(handler)

    def unsubscribe(self, handler: EventHandler) -> None:
        if handler in _link.declared:
            _link.declared.remove(handler)

    async def resource(self, verb: str, text: str, descriptor: int = -1) -> int | None:
        raise EventRefused(RefusalCode.UNSUPPORTED, "there is no host that keeps anything")

    def _context(self, name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
        parent, number = _parent.get(), str(next(self._numbers))
        context = dict(given or {})
        context.update(
            _event_id=number,
            _parent_event_id=parent and parent["_event_id"],
            _root_event_id=parent["_root_event_id"] if parent else number,
            _event_depth=parent["_event_depth"] + 1 if parent else 0,
            _timestamp=time.time(),
            event=name,
        )
        return context

    async def _call(
        self, handler: EventHandler, name: str, data: Any, inner: dict[str, Any]
    ) -> Any:
        _parent.set(inner)
        if not handler.passes(name, data, inner):
            return None
        args, keywords = handler.arguments(data, inner)
        if handler.is_async:
            return await handler.func(*args, **keywords)
        end = await asyncio.to_thread(handler.func, *args, **keywords)
        return await end if asyncio.iscoroutine(end) else end


#: There is one in a process.
local = LocalLink()
