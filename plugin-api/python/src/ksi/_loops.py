"""What is awaited on any loop, and done on that of the process: an ordinary function runs on a
thread, and may have made a loop of its own there."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
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
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

    functools.update_wrapper(done, method)
    return done
