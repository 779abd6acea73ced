"""The router, as KSI's modules have it: ``get_router().emit(...)``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import (
    Any,
)

from . import _link
from ._loops import on_its_loop, running_loop
from .events import EventHandler, EventPriority, Filter, emit_event_first
from .watching import Events

__all__ = ["EventRouter", "get_router"]

_log = logging.getLogger(__name__)


class EventRouter:
    """Emits, waits, subscribes and runs tasks for a module. There is one in a process."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._services: dict[str, Any] = {}
        self._shutdown_services: set[str] = set()
        self._shutdown_acknowledgments: set[str] = set()

    @property
    def config(self) -> Any:
        """The plugin's configuration, as the operator has it."""
        return _link.current().config

    @property
    def is_trial(self) -> bool:
        """Whether the plugin is only tried out: what it emits goes nowhere."""
        return _link.current().is_trial

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """On which tasks run, whichever loop they are started on."""
        return _link.current().loop

    # Events

    async def emit(
        self,
        event: str,
        data: Any = None,
        context: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> list[Any]:
        """The replies of all handlers, as :func:`ksi.events.emit_event`.

        Args:
            context: Whose parent the event has and whose ``_agent_id``, ``_client_id`` and
                ``_correlation_id``; of the handler that it is emitted in if it is not said.
            timeout: Seconds that all handlers may take together.
        """
        data = {} if data is None else data
        return await _link.current().emit(event, data, context, timeout=timeout)

    async def emit_first(
        self, event: str, data: Any = None, context: Mapping[str, Any] | None = None
    ) -> Any:
        """The first reply; ``None`` if there is none."""
        return await emit_event_first(event, data, context)

    async def emit_event(
        self, event: str, data: Any = None, context: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """The same as :meth:`emit`."""
        return await self.emit(event, data, context)

    async def send(
        self, event: str, data: Any = None, context: Mapping[str, Any] | None = None
    ) -> None:
        """Emits an event, and waits for nothing."""
        await _link.current().send(event, {} if data is None else data, context)

    def watch(self, *patterns: str, capacity: int = 1024) -> AbstractAsyncContextManager[Events]:
        """The events that pass, of whomever::

        async with router.watch("state:*") as events:
            async for event in events:
                ...
        """
        return _link.current().watch(patterns, capacity)

    async def wait_for_event(
        self,
        event_name: str,
        filter_fn: Callable[[Any], bool] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """What the next event of that name carries that the filter lets through.

        Raises:
            asyncio.TimeoutError: none came within so many seconds.
        """

        async def first() -> Any:
            while True:
                async with self.watch(event_name) as events:
                    async for event in events:
                        if filter_fn is None or filter_fn(event.data):
                            return event.data
                # Too many have passed in between: it is begun anew.
                await asyncio.sleep(0)

        return await asyncio.wait_for(first(), timeout)

    def register_handler(self, event: str, handler: EventHandler | Callable[..., Any]) -> None:
        """Subscribes a handler at run time."""
        if not isinstance(handler, EventHandler):
            handler = EventHandler(handler, event)
        _link.declare(handler)

    def subscribe(
        self,
        event: str,
        func: Callable[..., Any],
        priority: int = EventPriority.NORMAL,
        filter_func: Filter | None = None,
        *,
        timeout: float | None = None,
    ) -> EventHandler:
        """Subscribes a function at run time; what :meth:`unsubscribe` takes."""
        handler = EventHandler(func, event, priority, filter_func, timeout=timeout)
        _link.declare(handler)
        return handler

    def unsubscribe(self, handler: EventHandler) -> None:
        """Ends a subscription that was made at run time."""
        if handler in _link.declared:
            _link.declared.remove(handler)
        _link.current().unsubscribe(handler)

    def register_transformer_from_yaml(self, transformer_def: Mapping[str, Any]) -> None:
        """Asks for a transformer: sends ``router:register_transformer``, for whoever has them."""
        data = {"transformer": dict(transformer_def)}
        self._in_background("transformer", self.send("router:register_transformer", data))

    def unregister_transformer(self, source: str) -> None:
        """The same for its end."""
        data = {"source": source}
        self._in_background("transformer", self.send("router:unregister_transformer", data))

    def _in_background(self, what: str, work: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception as error:
                _log.error("%s: %s", what, error)

        def begin() -> None:
            task = asyncio.ensure_future(run())
            self._tasks[f"{what}:{id(task)}"] = task
            task.add_done_callback(lambda task: self._tasks.pop(f"{what}:{id(task)}", None))

        if running_loop() is self.loop:
            begin()
        else:
            self.loop.call_soon_threadsafe(begin)

    # Services: objects that a module has for itself and for what it imports. Other modules are in
    # other processes and do not see them.

    def register_service(self, name: str, service: Any, module_name: str | None = None) -> None:
        """Remembers an object by its name, in this process."""
        self._services[name] = service

    def get_service(self, name: str) -> Any:
        """What was remembered by that name in this process; ``None`` if nothing was."""
        return self._services.get(name)

    # Tasks

    @on_its_loop
    async def start_task(
        self,
        name: str,
        coro_or_callable: Awaitable[Any] | Callable[..., Awaitable[Any]],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Runs a coroutine, or what a function gives, in the background. Its failure is logged and
        told as ``task:error``."""
        if name in self._tasks:
            _log.warning("the task %s runs already", name)
            if asyncio.iscoroutine(coro_or_callable):
                coro_or_callable.close()
            return

        async def run() -> None:
            try:
                if callable(coro_or_callable):
                    await coro_or_callable(*args, **kwargs)
                else:
                    await coro_or_callable
            except Exception as error:
                _log.exception("the task %s failed", name)
                await self.send("task:error", {"task": name, "error": str(error)})

        task = self._tasks[name] = asyncio.ensure_future(run())
        task.add_done_callback(lambda task: self._forget(name, task))

    def _forget(self, name: str, task: asyncio.Task[Any]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]

    @on_its_loop
    async def stop_task(self, name: str) -> None:
        """Cancels a task, and waits for its end."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop_all_tasks(self) -> None:
        """The same for all of them."""
        for name in list(self._tasks):
            await self.stop_task(name)

    # Shutdown

    def register_shutdown_handler(self, service_name: str, handler: EventHandler) -> None:
        """A handler whose end is to be acknowledged. The host waits for the end of each anyway."""
        self._shutdown_services.add(service_name)
        _link.declare(handler)

    async def acknowledge_shutdown(self, service_name: str) -> None:
        """A service has done what it has to do before the end."""
        if service_name not in self._shutdown_services:
            _log.warning(
                "%s acknowledges a shutdown, and is no service of this module", service_name
            )
            return
        self._shutdown_acknowledgments.add(service_name)

    def is_shutting_down(self) -> bool:
        """Whether a service of this module has acknowledged a shutdown."""
        return bool(self._shutdown_acknowledgments)


_router = EventRouter()


def get_router() -> EventRouter:
    """The router of this process."""
    return _router
