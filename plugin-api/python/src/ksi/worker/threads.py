"""Threads on which ordinary functions run, and which of them may take the next one.

A function that blocks may wait for an event that another such function of the same plugin handles.
If all threads had functions of the first kind, none would ever end. So those that begin a chain
take half of the threads at the most, those that they ask half of the rest, and so on: whoever is
asked finds a thread that none of those who ask can have.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from .failures import Told

_log = logging.getLogger(__name__)

#: Seconds from one line to the next of those that tell the same.
_ONE_LINE_IN: Final = 60.0


class NoThread(Told):
    """Those who ask may have all threads, and have them."""

    code = "no_thread"


class _Call:
    """One call, with its place in the chain of those that wait for one another."""

    def __init__(
        self, depth: int, level: int, begin: Callable[[], object], fails: Callable[[Exception], None]
    ) -> None:
        self.depth, self.level, self.begin, self.fails = depth, level, begin, fails


class Threads:
    """Used on the event loop alone."""

    def __init__(self, plugin: str, most: int) -> None:
        self._plugin, self._most = plugin, most
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="ksi-handler")
        #: Those that run, by the root of their chain and their number.
        self._chains: dict[int, dict[int, _Call]] = {}
        self._running: dict[int, int] = {}
        #: Those that wait for a thread, by their level: by their number, the first come first.
        self._waiting: dict[int, dict[int, tuple[int, _Call]]] = {}
        self._told = -_ONE_LINE_IN

    def _may_have(self, level: int) -> int:
        return self._most - (self._most >> (level + 1))

    def run(
        self,
        number: int,
        root: int,
        depth: int,
        begin: Callable[[], object],
        fails: Callable[[Exception], None],
    ) -> None:
        """Runs a function on a thread, when one is there for it.

        Args:
            root, depth: The chain of its event, and where it stands in that.
            begin: The function.
            fails: Is told why it is not run.
        """
        chain = self._chains.get(root, {}).values()
        level = 1 + max((it.level for it in chain if it.depth < depth), default=-1)
        call = _Call(depth, level, begin, fails)
        if len(self._running) < self._may_have(level):
            self._begin(number, root, call)
        elif level > 0 and self._may_have(level - 1) >= self._most:
            fails(
                NoThread(
                    f"{self._most} calls of ordinary functions of {self._plugin} run, and wait for "
                    "one another: no thread is left for what they ask for (limits.blocking_threads)"
                )
            )
        else:
            self._waiting.setdefault(level, {})[number] = root, call

    def ended(self, number: int) -> None:
        """A call has ended, or nobody waits any more for one that has got no thread."""
        root = self._running.pop(number, None)
        if root is None:
            self._given_up(number)
            return
        chain = self._chains[root]
        del chain[number]
        if not chain:
            del self._chains[root]
        # Those whom others wait for come first.
        for level in sorted(self._waiting, reverse=True):
            waiting = self._waiting[level]
            while waiting and len(self._running) < self._may_have(level):
                next_number = next(iter(waiting))
                self._begin(next_number, *waiting.pop(next_number))
            if not waiting:
                del self._waiting[level]

    def _begin(self, number: int, root: int, call: _Call) -> None:
        try:
            self._pool.submit(call.begin)
        except RuntimeError as error:
            # No thread more can be had. One that there is may do it all the same.
            call.fails(error)
            return
        self._running[number] = root
        self._chains.setdefault(root, {})[number] = call

    def _given_up(self, number: int) -> None:
        for waiting in self._waiting.values():
            if waiting.pop(number, None) is not None:
                break
        else:
            return
        now = time.monotonic()
        if now - self._told >= _ONE_LINE_IN:
            self._told = now
            _log.warning(
                "a call of an ordinary function was given up before there was a thread for it: %d "
                "of at most %d run (limits.blocking_threads), and half are kept for what they ask",
                len(self._running),
                self._most,
            )
