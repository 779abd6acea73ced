"""One thread for all that plugins of pluggy run which is no coroutine.

A program of pluggy's has one thread, and its plugins may rely on it: on the order of their calls,
and on what belongs to the thread that made it, as a connection of sqlite3 does. So they have one
here too, which is not that of the event loop: a hook that blocks holds up the hooks behind it, and
neither coroutines nor the host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class OneThread:
    """Runs one function after another, in the order in which they come."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def run_now(self, func: Callable[..., T], *args: Any) -> T:
        """Runs a function, and waits until it is done."""
        return _given(self._pool.submit(_ended, func, *args).result())

    async def run(self, func: Callable[..., T], *args: Any) -> T:
        """Runs a function in the context of whoever awaits it."""
        queued = self._pool.submit(copy_context().run, _ended, func, *args)
        waiting = asyncio.wrap_future(queued)
        try:
            end = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if not queued.cancel():
                # Nobody can end a thread. It is over when it is.
                await asyncio.wait([waiting])
            raise
        return _given(end)


class _Raised:
    """An error that is raised once more: once, because what keeps it would be kept by it."""

    def __init__(self, error: BaseException) -> None:
        self._errors = [error]

    def again(self) -> NoReturn:
        raise self._errors.pop()


def _given(end: T | _Raised) -> T:
    if isinstance(end, _Raised):
        end.again()
    return end


def _ended(func: Callable[..., T], *args: Any) -> T | _Raised:
    """What it gives or raises. A future takes no StopIteration, and hooks are generators."""
    try:
        return func(*args)
    except BaseException as error:
        return _Raised(error)
