"""Who reads what the host sends: the event loop, and while that is busy a thread.

A handler that computes, or that blocks without a thread, holds the loop. A second thread looks on:
when something lies in the socket and the loop has not read for a moment, it reads in its place,
answers pings, and leaves the rest for the loop. It ends the process when the host is gone, whatever
the loop is doing, as soon as Python code runs at all: code in C that holds the interpreter's lock
keeps it away, and nothing in this process can help that.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from .frames import PING, Frame, ProtocolError
from .inbox import Inbox, Torn

if TYPE_CHECKING:
    import asyncio

#: Seconds after which somebody else reads for a loop that does not.
_TICK: Final = 0.1
#: Bytes that are read for a loop that does not read. Beyond that the host waits.
_READ_AHEAD: Final = 64 << 20
_GONE: Final = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class Reader:
    """Reads frames, and gives them to the loop in their order."""

    def __init__(
        self,
        connection: socket.socket,
        inbox: Inbox,
        take: Callable[[Frame], None],
        not_taken: Callable[[Frame, Exception], None],
        pong: Callable[[int], None],
    ) -> None:
        self._socket = connection
        self._inbox = inbox
        self._take = take
        self._not_taken = not_taken
        self._pong = pong
        self._lock = threading.Lock()
        self._frames: deque[Frame] = deque()
        self._ahead = 0
        #: Grows whenever the loop reads.
        self._turns = 0
        self.turn_ends: Callable[[], None] = lambda: None

    def start(self, loop: asyncio.AbstractEventLoop, came: list[Frame]) -> None:
        """Reads from here on, on the loop, behind what came already."""
        self._loop = loop
        self._sort(came)
        loop.call_soon(self._work)
        loop.add_reader(self._socket.fileno(), self._readable)
        threading.Thread(target=self._look_on, name="ksi-end", daemon=True).start()

    def _readable(self) -> None:
        self._turns += 1
        self._read()
        self._work()

    def _read(self) -> int:
        """Reads once; about how many bytes came."""
        with self._lock:
            try:
                frames = self._inbox.receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return 0
            except ProtocolError as error:
                ends_for(error)
            except Torn as error:
                say(str(error))
                ends_with_host()
            if frames is None:
                ends_with_host()
            self._sort(frames)
            return frames[-1].end if frames else 0

    def _sort(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.kind == PING:
                # Before what comes with it: that may take its time.
                self._pong(frame.id)
            else:
                self._frames.append(frame)

    def _work(self) -> None:
        """Does what was read. On the loop."""
        frames, take = self._frames, self._take
        try:
            while frames:
                frame = frames.popleft()
                try:
                    take(frame)
                except ProtocolError as error:
                    ends_for(error)
                except Exception as error:
                    # No frame keeps those behind it waiting.
                    self._not_taken(frame, error)
        finally:
            self._ahead = 0
            self.turn_ends()

    def _look_on(self) -> None:
        poll = select.poll()
        poll.register(self._socket.fileno(), _GONE)
        readable = select.poll()
        readable.register(self._socket.fileno(), select.POLLIN)
        seen = -1
        while True:
            if poll.poll(_TICK * 1000):
                ends_with_host()
            try:
                if self._turns == seen and self._ahead < _READ_AHEAD and readable.poll(0):
                    self._ahead += self._read()
                    self._loop.call_soon_threadsafe(self._work)
            except Exception as error:
                # Of memory that is not there, as an example. The end of the host is still seen.
                say(f"nobody reads for the loop while it is busy: {error!r}")
            seen = self._turns


def ends_with_host() -> NoReturn:
    """The host is gone: with this process ends all that it has started."""
    if os.getpgrp() == os.getpid():
        # Where it may signal nobody (`profile = "strict"`), it has started nobody either.
        with contextlib.suppress(OSError):
            os.killpg(0, signal.SIGKILL)
    os._exit(1)


def ends_for(error: BaseException) -> NoReturn:
    """The host says what makes no sense."""
    say(f"the host says what makes no sense: {error}")
    ends_with_host()


def say(text: str) -> None:
    """For whoever reads this process's standard error."""
    try:
        sys.stderr.write(f"ksi worker: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass
