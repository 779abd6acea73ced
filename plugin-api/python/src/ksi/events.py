"""What a module is written with.

A function becomes a handler by its decorator::

    from ksi.events import event_handler, emit_event

    @event_handler("order:placed")
    async def bill(data):
        await emit_event("order:billed", {"order": data["id"]})
        return {"billed": True}

Importing a module declares its handlers, and nothing runs before the host asks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from . import _link
from .names import EventNameError, check_pattern
from .refusals import EventRefused, RefusalCode

__all__ = [
    "EventHandler",
    "EventNameError",
    "EventPriority",
    "EventRefused",
    "RefusalCode",
    "emit_event",
    "emit_event_first",
    "event_handler",
    "send_event",
]

F = TypeVar("F", bound=Callable[..., Any])
Filter = Callable[[str, Any, dict[str, Any] | None], bool]


class EventPriority:
    """The place of a handler among those of one event: lower ones are called first."""

    HIGHEST = 0
    HIGH = 10
    NORMAL = 50
    LOW = 90
    LOWEST = 100


class EventHandler:
    """A function, and the event that it is called for."""

    def __init__(
        self,
        func: Callable[..., Any],
        event: str,
        priority: int = EventPriority.NORMAL,
        filter_func: Filter | None = None,
        *,
        timeout: float | None = None,
        schema: Any = None,
    ) -> None:
        check_pattern(event)
        if not callable(func):
            raise TypeError(f"a handler of {event} is a function, and this is {func!r}")
        if timeout is not None and not timeout > 0:
            raise ValueError(
                f"the timeout of a handler is in seconds and above 0, and not {timeout}"
            )
        self.func = func
        self.event = event
        #: All that it is called for, if that is more than one.
        self.events: list[str] = [event]
        if not isinstance(priority, int):
            text = f"the priority of a handler of {event} is a whole number, and not {priority!r}"
            raise TypeError(text)
        self.priority = int(priority)
        self.filter_func = filter_func
        #: Seconds that a call may take; ``None`` for what the host allows.
        self.timeout = timeout
        #: A TypedDict or a JSON Schema of what the event carries.
        self.schema = schema
        self.is_async = inspect.iscoroutinefunction(func)
        self.module: str = getattr(func, "__module__", "") or ""
        self.name: str = getattr(func, "__name__", type(func).__name__)
        self.qualified_name: str = getattr(func, "__qualname__", self.name)
        self.takes_context, self.context_key = _context_parameter(func)
        fault = _not_taken(func, *self.arguments(None, None))
        if fault:
            raise TypeError(
                f"a handler of {event} is called with the data, or with the data and the context, "
                f"and {self.name} {fault}"
            )

    @property
    def takes_data_alone(self) -> bool:
        """Whether it is called with nothing but what the event carries, for each event."""
        return self.filter_func is None and not (self.takes_context or self.context_key)

    def arguments(self, data: Any, context: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the function is called with."""
        if self.context_key:
            return (data,), {self.context_key: context}
        return ((data, context) if self.takes_context else (data,)), {}

    def passes(self, name: str, data: Any, context: Any) -> bool:
        """Whether the handler's filter lets an event through."""
        return self.filter_func is None or bool(self.filter_func(name, data, context))

    def __repr__(self) -> str:
        return f"<handler {self.name} of {self.event}>"


def event_handler(
    event: str,
    priority: int = EventPriority.NORMAL,
    filter_func: Filter | None = None,
    *,
    timeout: float | None = None,
    schema: Any = None,
) -> Callable[[F], F]:
    """Makes a function a handler of an event, or of those that a pattern stands for.

    It is called with what the event carries, and with its context if it has a second parameter. An
    ordinary function is called on a thread, so that it may block. What it gives is its reply;
    ``None`` is none.

    Args:
        event: A name as ``state:update``, or a pattern as ``state:*``.
        priority: Its place among the handlers of one event, see :class:`EventPriority`.
        filter_func: Called with name, data and context; a call that it is false for does nothing.
        timeout: Seconds that a call may take; what the host allows if it is not said.
        schema: A TypedDict or JSON Schema of the data, if its annotation does not say.

    Raises:
        EventNameError: ``event`` is no name and no pattern.
    """
    return declaring(EventHandler, event, priority, filter_func, timeout, schema)


def declaring(
    kind: type[EventHandler],
    event: str,
    priority: int,
    filter_func: Filter | None,
    timeout: float | None,
    schema: Any,
) -> Callable[[F], F]:
    """The same for a handler of another kind."""
    check_pattern(event)

    def decorate(func: F) -> F:
        handler = kind(func, event, priority, filter_func, timeout=timeout, schema=schema)
        _link.declare(handler)
        try:
            func._event_handler = handler  # type: ignore[attr-defined]
            func._event_name = event  # type: ignore[attr-defined]
            func._event_priority = priority  # type: ignore[attr-defined]
        except AttributeError:
            pass  # A bound method takes no attributes, and needs none.
        return func

    return decorate


async def emit_event(
    event: str, data: Any = None, context: Mapping[str, Any] | None = None
) -> list[Any]:
    """Emits an event, and waits for the replies of all of its handlers.

    What a handler fails with is logged and left out. Emitted in a handler, it has the event of
    that handler as its parent; in a task that a handler has started too, also after its end.

    Raises:
        EventRefused: the host does not accept the event; its ``code`` says why.
    """
    return await _link.current().emit(event, {} if data is None else data, context)


async def emit_event_first(
    event: str, data: Any = None, context: Mapping[str, Any] | None = None
) -> Any:
    """The same, for the first reply; ``None`` if there is none."""
    replies = await emit_event(event, data, context)
    return replies[0] if replies else None


async def send_event(
    event: str, data: Any = None, context: Mapping[str, Any] | None = None
) -> None:
    """Emits an event, and waits for nothing.

    Raises:
        EventRefused: as for :func:`emit_event`, as far as it is known at once.
    """
    await _link.current().send(event, {} if data is None else data, context)


def _context_parameter(func: Callable[..., Any]) -> tuple[bool, str]:
    """Whether a function takes a context as its second argument, or by which keyword."""
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError):
        return False, ""
    positional = 0
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            return True, ""
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional += 1
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.name == "context":
            return False, "context"
    return positional >= 2, ""


def _not_taken(
    func: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]
) -> str | None:
    """Why a function cannot be called with these; ``None`` also if that is not known."""
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return None
    try:
        bound = signature.bind_partial(*args, **keywords)
    except TypeError:
        return "takes no argument"
    missing = [
        it.name
        for it in signature.parameters.values()
        if it.name not in bound.arguments
        and it.default is it.empty
        and it.kind not in (it.VAR_POSITIONAL, it.VAR_KEYWORD)
    ]
    return f"needs {', '.join(missing)} as well" if missing else None
