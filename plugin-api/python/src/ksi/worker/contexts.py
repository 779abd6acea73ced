"""Which call something belongs to: for whoever emits, logs, or keeps the context of an event."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any, Final, Protocol

from .frames import KEEPS


class Keeper(Protocol):
    """Who counts the contexts that are kept beyond their calls."""

    def keeps_one_more(self) -> bool:
        """Whether one more may be kept."""

    def release(self, number: int) -> None:
        """Nobody has the context of this call any more, which was kept."""


class CallRef:
    """The number of a call, for whoever emits in it: 0 once the host does not know it any more.

    A call that is over is kept by the host as long as somebody may still emit in its name: who has
    its context, or a task that was started in it.
    """

    __slots__ = ("number", "_keeper", "_holders", "_kept")

    def __init__(self, number: int, keeper: Keeper | None) -> None:
        self.number = number
        self._keeper = keeper
        # Lists, because taking from one is done once, whichever threads try.
        self._holders: list[None] | None = None
        self._kept: list[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the call has not ended."""
        return self.number != 0 and self._kept is None

    def hold(self) -> None:
        """One more may emit in its name."""
        if self._holders is None:
            self._holders = []
        self._holders.append(None)

    def let_go(self, _: object = None) -> None:
        """One less may."""
        holders, kept = self._holders, self._kept
        try:
            if holders is not None:
                holders.pop()
            if kept is not None and not holders:
                kept.pop()
                number, self.number = self.number, 0
                if self._keeper is not None:
                    self._keeper.release(number)
        except IndexError:
            pass

    def ends(self) -> int:
        """The call is over; the flags of its end."""
        if self._holders and self._keeper is not None and self._keeper.keeps_one_more():
            self._kept = [None]
            return KEEPS
        self.number = 0
        return 0


class EventContext(dict[str, Any]):
    """What a handler is told of its event. Whoever keeps it can emit in its name."""

    __slots__ = ("call", "inherited", "held")

    call: CallRef
    #: What the event has of whoever began the chain; its descendants have it anyway.
    inherited: dict[str, str]
    held: bool

    def __del__(self) -> None:
        if self.held:
            self.call.let_go()


def _base_count() -> int:
    """What :func:`sys.getrefcount` says of an object that nobody has but a variable."""
    context = EventContext()
    context.held = False
    return sys.getrefcount(context)


ALONE: Final = _base_count()

current: ContextVar[CallRef | None] = ContextVar("ksi_call", default=None)


def current_call() -> int:
    """The number of the call that runs here; 0 for none."""
    ref = current.get()
    return ref.number if ref is not None else 0


def current_ref() -> CallRef | None:
    """The call that runs here."""
    return current.get()


def context_call(context: Any) -> CallRef | None:
    """The call that a context came with."""
    return context.call if isinstance(context, EventContext) else None
