"""Who carries out what a module asks for: the host, in a worker, or else this process by itself.

One process runs one plugin, so there is one link.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
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

#: Folders that the operator has other modules imported from. What one of these declares when it is
#: imported is not the plugin's: it may be a plugin itself, and each of its events would be handled
#: twice.
shared: list[str] = []
#: The file that is run, which may lie in such a folder.
own_file = ""

_log = logging.getLogger(__name__)
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
    other = _imported_beside() if shared else ""
    if other:
        _log.info("%r of %s is none of this plugin's, which imports it", handler, other)
        return
    declared.append(handler)
    if _current is not None:
        _current.subscribe(handler)


def _imported_beside() -> str:
    """The file in a shared folder that is just being imported, if one is."""
    frame = sys._getframe(2)
    while frame.f_code.co_name != "<module>":
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    file = frame.f_code.co_filename
    is_shared = file != own_file and any(file.startswith(it.rstrip(os.sep) + os.sep) for it in shared)
    return file if is_shared else ""


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
