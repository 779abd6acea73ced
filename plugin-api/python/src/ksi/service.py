"""Services as KSI's modules write them: what runs when they start, are ready, and end.

These events come from the worker: ``system:startup``, ``system:context`` and ``system:ready`` when
an instance is made, in this order, and what stands under ``system:shutdown`` when it goes.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from . import _link
from .events import EventHandler, EventPriority, _context_parameter, event_handler
from .responses import event_response_builder
from .router import get_router

__all__ = [
    "CheckpointParticipant",
    "background_task",
    "checkpoint_participant",
    "register_checkpoint_handlers",
    "service_provider",
    "service_ready_handler",
    "service_shutdown",
    "service_startup",
    "shutdown_handler",
]

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)
Tasks = Sequence[dict[str, Any]]


def service_startup(
    service_name: str, load_transformers: bool = True, additional_tasks: Tasks | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Runs a function when the module starts. What it gives stands in the reply beside ``service``
    and ``status``.

    Transformers are none of the module's: whoever has them in the host loads them.
    """

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        @event_handler("system:startup")
        @functools.wraps(func)
        async def startup(data: Any, context: Any = None) -> dict[str, Any]:
            logging.getLogger(service_name).info("%s starts", service_name)
            more = await _called(func, data, context)
            response = {"service": service_name, "status": "ready"}
            if additional_tasks:
                response["tasks"] = additional_tasks  # type: ignore[assignment]
            return event_response_builder({**response, **_fields(more)}, context)

        return startup

    return decorate


def service_ready_handler(
    service_name: str,
    load_transformers: bool = True,
    background_tasks: Callable[[], Tasks] | Tasks | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Runs a function once the module is ready, and then the tasks: ``name`` and ``coroutine`` of
    each."""

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        @event_handler("system:ready")
        @functools.wraps(func)
        async def ready(data: Any, context: Any = None) -> dict[str, Any]:
            more = _fields(await _called(func, data, context))
            response: dict[str, Any] = {"service": service_name, "status": "ready"}
            if background_tasks:
                found = background_tasks() if callable(background_tasks) else background_tasks
                response["tasks"] = found
            return event_response_builder({**response, **more}, context)

        return ready

    return decorate


def service_shutdown(
    service_name: str, cleanup_async_operations: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Runs a function when the module goes."""

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        @event_handler("system:shutdown")
        @functools.wraps(func)
        async def shutdown(data: Any, context: Any = None) -> None:
            await _called(func, data, context)
            logging.getLogger(service_name).info("%s has ended", service_name)

        return shutdown

    return decorate


def shutdown_handler(service_name: str, priority: int = EventPriority.NORMAL) -> Callable[[F], F]:
    """The same for a function that says itself that it is done, by
    ``get_router().acknowledge_shutdown(service_name)``. The host waits for the end of each."""

    def decorate(func: F) -> F:
        handler = EventHandler(func, "system:shutdown", priority)
        get_router().register_shutdown_handler(service_name, handler)
        func._shutdown_handler = handler  # type: ignore[attr-defined]
        func._shutdown_service = service_name  # type: ignore[attr-defined]
        return func

    return decorate


def service_provider(service_name: str) -> Callable[[F], F]:
    """Makes what a function gives a service of this process."""

    def decorate(func: F) -> F:
        func._provides_service = service_name  # type: ignore[attr-defined]
        if not inspect.iscoroutinefunction(func):
            get_router().register_service(service_name, func(), func.__module__)
        return func

    return decorate


def background_task(name: str) -> Callable[[F], F]:
    """Marks a function as a task. It is started by whoever answers ``system:ready`` with it."""

    def decorate(func: F) -> F:
        func._background_task = name  # type: ignore[attr-defined]
        return func

    return decorate


class CheckpointParticipant:
    """Something with a state of its own, which is part of the module's."""

    def __init__(self, service_name: str) -> None:
        self.service_name = service_name
        _declare_checkpoint(
            service_name, self.collect_checkpoint_data, self.restore_from_checkpoint
        )

    def collect_checkpoint_data(self) -> Any:
        """What is to be kept."""
        raise NotImplementedError("a participant says what is to be kept")

    def restore_from_checkpoint(self, data: Any) -> Any:
        """Takes what was kept."""
        raise NotImplementedError("a participant takes what was kept")


def checkpoint_participant(service_name: str) -> Callable[[C], C]:
    """The same for a class with these two methods: each instance of it takes part."""

    def decorate(cls: C) -> C:
        before: Callable[..., None] = getattr(cls, "__init__")  # noqa: B009

        @functools.wraps(before)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            before(self, *args, **kwargs)
            _declare_checkpoint(
                service_name, self.collect_checkpoint_data, self.restore_from_checkpoint
            )

        setattr(cls, "__init__", init)  # noqa: B010 (the type of a class's own is another one)
        return cls

    return decorate


async def register_checkpoint_handlers(
    service_name: str, collect_fn: Callable[[], Any], restore_fn: Callable[[Any], Any]
) -> dict[str, Any]:
    """The same for two functions."""
    _declare_checkpoint(service_name, collect_fn, restore_fn)
    return {"service_name": service_name}


def _declare_checkpoint(
    name: str, collects: Callable[[], Any], restores: Callable[[Any], Any]
) -> None:
    key = f"{name}_state"

    async def collect(data: Any, context: Any = None) -> dict[str, Any]:
        found = collects()
        return {key: await found if inspect.isawaitable(found) else found}

    async def restore(data: Any, context: Any = None) -> None:
        if key in data:
            end = restores(data[key])
            if inspect.isawaitable(end):
                await end

    for func, event in ((collect, "checkpoint:collect"), (restore, "checkpoint:restore")):
        _link.declare(EventHandler(func, event))


async def _called(func: Callable[..., Any], data: Any, context: Any) -> Any:
    takes_context, _ = _context_parameter(func)
    end = func(data, context) if takes_context else func(data)
    return await end if inspect.isawaitable(end) else end


def _fields(more: Any) -> dict[str, Any]:
    return dict(more) if isinstance(more, dict) else {}
