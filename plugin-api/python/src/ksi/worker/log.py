"""Lines of the log, which the host writes."""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from . import frames
from .contexts import current_call
from .failures import summary_of
from .outbox import Outbox, TooLong

ERROR: Final = 1
WARN: Final = 2
INFO: Final = 3
DEBUG: Final = 4
TRACE: Final = 5

#: What ``logging`` calls the levels of the host. 0 is none.
_LEVELS: Final = (
    logging.CRITICAL + 1,
    logging.ERROR,
    logging.WARNING,
    logging.INFO,
    logging.DEBUG,
    1,
)
#: Bytes of a line's message, and of its fields, that are sent.
_LONGEST: Final = 64 << 10
#: Lines that wait for the instance: before there is one, the host takes none.
_EARLY: Final = 256
_HEAD: Final = struct.Struct("<QQB")


class LogForwarder(logging.Handler):
    """Sends what is logged, with the call that it belongs to."""

    def __init__(self, out: Outbox, level: int) -> None:
        super().__init__()
        self._out = out
        self._early: deque[bytes] = deque(maxlen=_EARLY)
        self._taken = False
        self._most = level

    def install(self) -> None:
        """Takes what the root logger gets."""
        root = logging.getLogger()
        root.addHandler(self)
        self.set_most(self._most)
        logging.captureWarnings(True)

    def set_most(self, level: int) -> None:
        """The most detailed level that anybody listens to."""
        self._most = min(max(level, 0), TRACE)
        logging.getLogger().setLevel(_LEVELS[self._most])

    def open(self) -> None:
        """The host takes lines from here on."""
        self._taken = True
        while self._early:
            self._out.put(frames.LOG, 0, self._early.popleft())

    def emit(self, record: logging.LogRecord) -> None:
        level = _level_of(record.levelno)
        if level > self._most:
            return
        try:
            message = self.format(record)
        except Exception as error:
            message = f"{record.msg!r} (it cannot be formatted: {summary_of(error)})"
        self.say(level, record.name, message)

    def say(self, level: int, target: str, message: str) -> None:
        """A line at once, so that it is out if this process dies of what comes next."""
        if level > self._most:
            return
        call = current_call()
        body = (
            _HEAD.pack(call, 0, level)
            + frames.text(_cut(target))
            + frames.text("")
            + frames.text(_cut(message))
        )
        if not self._taken:
            self._early.append(body)
            return
        try:
            self._out.put_now(frames.LOG, 0, body)
        except TooLong:
            pass


def _level_of(number: int) -> int:
    if number >= logging.ERROR:
        return ERROR
    if number >= logging.WARNING:
        return WARN
    if number >= logging.INFO:
        return INFO
    return DEBUG if number >= logging.DEBUG else TRACE


def _cut(text: str) -> str:
    if len(text) <= _LONGEST // 4:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= _LONGEST:
        return text
    kept = encoded[:_LONGEST].decode("utf-8", "ignore")
    return f"{kept}… ({len(encoded) - _LONGEST} bytes more)"


Say = Callable[[int, str, str], None]
