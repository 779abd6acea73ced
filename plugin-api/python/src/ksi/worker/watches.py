"""Watches and subscriptions that the module makes while it runs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from .. import codec
from .._loops import on_its_loop
from ..events import EventHandler
from ..names import EventNameError, check_pattern
from ..refusals import EventRefused, RefusalCode
from ..watching import Events, PassedEvent
from . import frames
from .failures import summary_of
from .frames import Frame, ProtocolError
from .log import WARN

if TYPE_CHECKING:
    from .session import Session

#: Handlers that are subscribed at run time have numbers from here on.
_FIRST_NUMBER: Final = 1 << 32
#: Patterns that one watch may have.
_PATTERNS: Final = 64
_SUBSCRIBE: Final = struct.Struct("<QiQ")
_EVENT: Final = 0
_MISSED: Final = 1
_ENDED: Final = 2


class Watches:
    """Those that there are. They are accepted here, because that cannot wait for the host."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.loop = session.loop
        self._watches: dict[int, Events] = {}
        #: By the number of the ask: the number of the handler.
        self._subscriptions: dict[int, int] = {}
        self._by_handler: dict[EventHandler, int] = {}
        self._next_handler = _FIRST_NUMBER
        self._closed = False

    def _check_one_more(self, verb: str, code: int) -> None:
        plugin, limit = self._session.plugin, self._session.limits.subscriptions
        held = len(self._watches) + len(self._subscriptions)
        if self._closed:
            text = f"{plugin} is being retired and cannot {verb} any more"
            raise EventRefused(RefusalCode.RETIRING, text)
        if held >= limit:
            text = (
                f"{plugin} has {held} subscriptions and watches made at run time, and {limit} are "
                "allowed (limits.subscriptions)"
            )
            raise EventRefused(code, text)

    @on_its_loop
    async def begin_watch(self, patterns: Sequence[str], capacity: int) -> tuple[int, Events]:
        """Events that pass are shown from here on; the number of the watch."""
        session = self._session
        if not session.is_live:
            await session.wait_until_live()
        if not 1 <= len(patterns) <= _PATTERNS:
            text = f"a watch has from 1 to {_PATTERNS} patterns, and {len(patterns)} were given"
            raise EventRefused(RefusalCode.INVALID_PATTERN, text)
        try:
            for pattern in patterns:
                check_pattern(pattern)
        except EventNameError as error:
            raise EventRefused(RefusalCode.INVALID_PATTERN, str(error)) from None
        self._check_one_more("watch", RefusalCode.TOO_MANY_WATCHES)
        limits, number = session.limits, session.asks.number()
        events = Events(min(capacity, limits.watch_events), limits.watch_bytes)
        self._watches[number] = events
        body = struct.pack("<Q", max(1, capacity)) + frames.texts(list(patterns))
        session.out.put(frames.WATCH, number, body)
        return number, events

    def end_watch(self, number: int) -> None:
        """They are not any more. From any thread."""
        if self._watches.pop(number, None) is not None:
            self._session.out.put(frames.UNWATCH, number)

    def subscribe(self, handler: EventHandler) -> None:
        """Has a handler called for each event that matches."""
        session = self._session
        self._check_one_more("subscribe", RefusalCode.TOO_MANY_SUBSCRIPTIONS)
        number, handler_number = session.asks.number(), self._next_handler
        self._next_handler += 1
        self._subscriptions[number] = handler_number
        self._by_handler[handler] = number
        session.calls.add(handler_number, handler)
        timeout = int((handler.timeout or 0) * 1e9)
        body = _SUBSCRIBE.pack(handler_number, host_priority(handler.priority), timeout)
        flags = 0 if handler.is_async else frames.BLOCKING
        session.out.put(frames.SUBSCRIBE, number, body + frames.text(handler.event), flags=flags)

    def unsubscribe(self, handler: EventHandler) -> None:
        """Ends that."""
        number = self._by_handler.pop(handler, None)
        if number is None:
            return
        self._session.calls.remove(self._subscriptions.pop(number))
        self._session.out.put(frames.UNSUBSCRIBE, number)

    def refused(self, number: int) -> None:
        """The host refuses this watch or subscription."""
        watch = self._watches.pop(number, None)
        if watch is not None:
            watch.end()
        handler = self._subscriptions.pop(number, None)
        if handler is not None:
            self._session.calls.remove(handler)

    def show(self, frame: Frame) -> None:
        """The host has the next for a watch."""
        watch = self._watches.get(frame.id)
        step = frame.u8()
        if step == _EVENT:
            if watch is not None:
                self._shows(frame, watch)
        elif step in (_MISSED, _ENDED):
            missed = frame.u64() if step == _MISSED else 0
            frame.ends()
            if watch is not None:
                self._watches.pop(frame.id)
                watch.end(missed)
        else:
            raise ProtocolError(f"a frame WATCHED has the step {step}")

    def _shows(self, frame: Frame, watch: Events) -> None:
        size = frame.end - frame.at
        try:
            event = passed_event(frame)
        except (ValueError, MemoryError) as error:
            # As one that was missed, with which the watch ends.
            del self._watches[frame.id]
            self._session.out.put(frames.UNWATCH, frame.id)
            watch.end(1)
            text = f"a watch ends with an event that cannot be read: {summary_of(error)}"
            self._session.log.say(WARN, __name__, text)
        else:
            watch.add(event, size)

    def close(self) -> None:
        """Ends all watches, and takes nothing more."""
        self._closed = True
        watches, self._watches = self._watches, {}
        for watch in watches.values():
            watch.end()
        self._subscriptions.clear()
        self._by_handler.clear()


def passed_event(frame: Frame) -> PassedEvent:
    """An event that belongs to no call."""
    number, parent, root, timestamp = (frame.u64() for _ in range(4))
    depth, name, source = frame.u32(), frame.text(), frame.text()
    context: dict[str, Any] = dict(frame.attributes())
    context.update(
        _event_id=str(number),
        _parent_event_id=str(parent) if parent else None,
        _root_event_id=str(root),
        _event_depth=depth,
        _timestamp=timestamp / 1e9,
        _source=source,
        event=name,
    )
    return PassedEvent(name, codec.loads(frame.payload()), context)


def host_priority(priority: int) -> int:
    """A priority as the host has it: there the higher ones are called first, and 0 is the usual."""
    return min(max(50 - priority, -(1 << 31)), (1 << 31) - 1)
