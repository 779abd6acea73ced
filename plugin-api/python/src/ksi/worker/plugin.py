"""What a worker runs: a module of handlers, or plugins of pluggy."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable
from typing import Any, Protocol

from ..events import EventHandler
from ..loader import Declared, LoadedModule, load_module
from ..router import get_router
from .limits import Open
from .state import State

_log = logging.getLogger(__name__)

#: Events of KSI's that are the life of its modules: the worker tells of them, and not the host.
STARTUP = "system:startup"
CONTEXT = "system:context"
READY = "system:ready"
COLLECT = "checkpoint:collect"
RESTORE = "checkpoint:restore"
_LIFE = (STARTUP, CONTEXT, READY, COLLECT, RESTORE)
#: The host tells each plugin that it goes by this event, and not all of them by that one.
SHUTDOWN = "module:shutdown"
_KSI_SHUTDOWN = "system:shutdown"


class KeepsState(Protocol):
    """As :class:`State` does it."""

    keep: list[str]

    def describe(self) -> dict[str, list[int]] | None: ...

    async def snapshot(self, version: int) -> bytes: ...

    async def restore(self, version: int, snapshot: bytes) -> None: ...

    async def read_back(self, version: int, snapshot: bytes) -> None: ...


class Plugin(Protocol):
    """What the life of a worker is about."""

    #: Those that the host calls, by their numbers.
    handlers: list[Declared]

    @property
    def state(self) -> KeepsState:
        """What it knows."""

    async def create(self, config: Any) -> None:
        """An instance is made."""

    async def goes_live(self) -> None:
        """It takes its place, with its state."""

    async def ends(self) -> None:
        """It is told that it goes, before its tasks are ended."""

    def declared_late(self, handler: EventHandler) -> bool:
        """A handler is declared while the plugin runs; whether the host is to call it."""


class ModulePlugin:
    """A module that declares handlers."""

    def __init__(self, opened: Open) -> None:
        python = opened.python
        loaded = load_module(opened.source, python.module or opened.plugin, opened.shown)
        self._loaded: LoadedModule = loaded
        self._life: dict[str, list[EventHandler]] = {event: [] for event in _LIFE}
        self._late_shutdown: list[EventHandler] = []
        self._shutdown_event: asyncio.Event | None = None
        self.handlers = [it for it in loaded.handlers if not self._is_life(it.handler)]
        for declared in self.handlers:
            if declared.handler.event == _KSI_SHUTDOWN:
                declared.handler.event = SHUTDOWN
                declared.handler.events = [SHUTDOWN]
        self.state = State(loaded, python.keep, _call, self._life[COLLECT], self._life[RESTORE])

    def _is_life(self, handler: EventHandler) -> bool:
        among = self._life.get(handler.event)
        if among is None:
            return False
        among.append(handler)
        among.sort(key=lambda it: it.priority)
        return True

    def declared_late(self, handler: EventHandler) -> bool:
        if handler.event in (SHUTDOWN, _KSI_SHUTDOWN):
            self._late_shutdown.append(handler)
            return False
        return not self._is_life(handler)

    async def create(self, config: Any) -> None:
        router = get_router()
        initialize = self._loaded.function("initialize")
        if initialize is not None:
            takes = len(inspect.signature(initialize).parameters)
            end = initialize(*(router, config)[:takes])
            if inspect.isawaitable(end):
                await end
        if not any(self._life[event] for event in (STARTUP, CONTEXT, READY)):
            return
        settings = config if isinstance(config, dict) else {}
        for handler in self._life[STARTUP]:
            await _call(handler, dict(settings))
        self._shutdown_event = asyncio.Event()
        for handler in self._life[CONTEXT]:
            context = {
                "config": settings,
                "emit_event": router.emit,
                "event_router": router,
                "shutdown_event": self._shutdown_event,
            }
            await _call(handler, context)

    async def goes_live(self) -> None:
        for handler in self._life[READY]:
            try:
                await start_tasks(await _call(handler, {}))
            except Exception:
                _log.exception("%s of %s failed", handler.name, READY)

    async def ends(self) -> None:
        if self._shutdown_event is not None:
            self._shutdown_event.set()
            # Those that wait for it end by themselves.
            await asyncio.sleep(0)
        for handler in self._late_shutdown:
            try:
                await _call(handler, {})
            except Exception:
                _log.exception("%s failed at the end", handler.name)


async def start_tasks(ready: Any) -> None:
    """What a handler of ``system:ready`` wants to have run in the background."""
    if not isinstance(ready, dict):
        return
    service = ready.get("service", "service")
    for number, task in enumerate(ready.get("tasks") or ()):
        if isinstance(task, dict) and task.get("coroutine") is not None:
            name = f"{service}:{task.get('name', number)}"
            await get_router().start_task(name, task["coroutine"])


async def _call(handler: EventHandler, data: Any) -> Any:
    """Calls a handler of an event that the worker itself tells of."""
    context = {"event": handler.event, "router": get_router()}
    if not handler.passes(handler.event, data, context):
        return None
    args, keywords = handler.arguments(data, context)
    if handler.is_async:
        return await handler.func(*args, **keywords)
    end = await asyncio.to_thread(handler.func, *args, **keywords)
    return await end if isinstance(end, Awaitable) else end
