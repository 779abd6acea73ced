"""Who carries out what a module asks for: the host, in a worker, or else this process by itself.

One process runs one plugin, so there is one link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import (
    TYPE_CHECKING,
    Any,
    Protocol,
)

if TYPE_CHECKING:
    from .events import EventHandler
    from .watching import Events

#: Handlers in the order of their declaration, also those that are declared while there is a link.
declared: list[EventHandler] = []

_current: Link | None = None


class Link(Protocol):
    """What a module has of its host."""

    #: The configuration of the plugin.
    config: Any
    #: Whether it is only tried out: what it emits goes nowhere.
    is_trial: bool

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """That of the module's tasks."""

    async def emit(
        self,
        name: str,
        data: Any,
        context: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> list[Any]: ...

    async def send(
        self, name: str, data: Any, context: Mapping[str, Any] | None = None
    ) -> None: ...

    def watch(
        self, patterns: Sequence[str], capacity: int
    ) -> AbstractAsyncContextManager[Events]: ...

    def subscribe(self, handler: EventHandler) -> None: ...

    def unsubscribe(self, handler: EventHandler) -> None: ...

    async def resource(self, verb: str, text: str, descriptor: int = -1) -> int | None: ...


def declare(handler: EventHandler) -> None:
    """A decorator has made a handler."""
    declared.append(handler)
    if _current is not None:
        _current.subscribe(handler)


def current() -> Link:
    """Who carries out what is asked for."""
    if _current is not None:
        return _current
    from .local import local

    return local


def attach(link: Link | None) -> None:
    """From here on it is this one."""
    global _current
    _current = link
