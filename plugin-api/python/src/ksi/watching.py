"""Events that a module looks on at."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from ._loops import on_its_loop


class PassedEvent:
    """An event that has passed."""

    __slots__ = ("name", "data", "context")

    def __init__(self, name: str, data: Any, context: dict[str, Any]) -> None:
        self.name = name
        self.data = data
        self.context = context

    def __repr__(self) -> str:
        return f"<event {self.name}>"


class Events(AsyncIterator[PassedEvent]):
    """The events of a watch, in their order. It ends when some were missed, or with the plugin."""

    def __init__(self, capacity: int, most_bytes: int) -> None:
        self._waiting: deque[tuple[PassedEvent, int]] = deque()
        self._bytes = 0
        self._capacity = max(1, capacity)
        self._most_bytes = most_bytes
        self._ended = False
        self._more = asyncio.Event()
        #: On which events are added.
        self.loop = asyncio.get_running_loop()
        #: Events that did not fit into the watch, or that the host has left out.
        self.missed = 0

    def add(self, event: PassedEvent, size: int) -> None:
        """One more has passed."""
        fits = len(self._waiting) < self._capacity and (
            not self._waiting or self._bytes + size <= self._most_bytes
        )
        if self._ended or self.missed or not fits:
            self.missed += 1
        else:
            self._waiting.append((event, size))
            self._bytes += size
        self._more.set()

    def end(self, missed: int = 0) -> None:
        """No more come."""
        self.missed += missed
        self._ended = True
        self._more.set()

    async def next(self, timeout: float | None = None) -> PassedEvent:
        """The next one.

        Raises:
            asyncio.TimeoutError: none came within so many seconds.
            StopAsyncIteration: no more come.
        """
        return await asyncio.wait_for(self.__anext__(), timeout)

    @on_its_loop
    async def __anext__(self) -> PassedEvent:
        while not self._waiting:
            if self._ended or self.missed:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        event, size = self._waiting.popleft()
        self._bytes -= size
        return event
