"""What is awaited on any loop, and done on that of the process: an ordinary function runs on a
thread, and may have made a loop of its own there."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

#: The loop that runs here, if one does.
running_loop = asyncio._get_running_loop


class HasLoop(Protocol):
    """Whose methods are done on one loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...


_S = TypeVar("_S", bound=HasLoop)
_T = TypeVar("_T")
_P = ParamSpec("_P")


def on_its_loop(
    method: Callable[Concatenate[_S, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[_S, _P], Coroutine[Any, Any, _T]]:
    """Does a method on the loop of its object, whichever loop it is awaited on."""

    async def done(self: _S, /, *args: _P.args, **keywords: _P.kwargs) -> _T:
        work, loop = method(self, *args, **keywords), self.loop
        if running_loop() is loop:
            return await work
        return await asyncio.wrap_future(_begun_on(loop, work))

    functools.update_wrapper(done, method)
    return done


def _begun_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _T]) -> Future[_T]:
    """As `asyncio.run_coroutine_threadsafe`, but without the loop's factory: that makes tasks of a
    module, which are counted, and are refused at its end."""
    end: Future[_T] = Future()

    def begin() -> None:
        task = asyncio.Task(work, loop=loop)

        def ended(end: Future[_T]) -> None:
            if end.cancelled():
                loop.call_soon_threadsafe(task.cancel)

        task.add_done_callback(lambda task: _tell(task, end))
        end.add_done_callback(ended)

    loop.call_soon_threadsafe(begin)
    return end


def _tell(task: asyncio.Task[_T], end: Future[_T]) -> None:
    if task.cancelled():
        end.cancel()
    elif end.set_running_or_notify_cancel():
        error = task.exception()
        if error is None:
            end.set_result(task.result())
        else:
            end.set_exception(error)
