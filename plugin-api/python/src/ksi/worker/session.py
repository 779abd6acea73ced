"""One plugin's life with its host: what comes is given to whoever does it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from .. import codec
from .._loops import running_loop
from ..events import EventHandler
from ..refusals import EventRefused, RefusalCode
from ..watching import Events
from . import frames
from .asks import Asks
from .calls import EAGER, Calls
from .contexts import CallRef, current_ref
from .failures import code_of, message_of, summary_of
from .frames import Frame
from .inbox import Inbox
from .lifecycle import Lifecycle
from .limits import Open
from .log import WARN, LogForwarder
from .outbox import Outbox
from .reader import Reader
from .watches import Watches


class Session:
    """All of it. It is the link by which the module reaches its host (:mod:`ksi._link`)."""

    def __init__(
        self,
        open: Open,
        connection: socket.socket,
        inbox: Inbox,
        out: Outbox,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.open = open
        self.plugin = open.plugin
        self.limits = open.limits
        self.is_trial = open.trial
        self.loop = loop
        self.out = out
        self.config: Any = None
        inbox.limit = out.limit = open.limits.frame
        self.log = LogForwarder(out, open.level)
        self.calls = Calls(self)
        self.asks = asks = Asks(self)
        self.emit, self.send, self.resource = asks.emit, asks.send, asks.resource
        self.watches = Watches(self)
        self.lifecycle = Lifecycle(self)
        self.reader = Reader(connection, inbox, self._take, self._not_taken, self._pong)
        #: The host takes what the module asks for.
        self.is_live = False
        self._live = asyncio.Event()
        self._tasks: dict[asyncio.Task[Any], CallRef | None] = {}
        self._tasks_closed = False
        self._in_turn = False
        self._flushes = False
        self.ended: asyncio.Future[None] = loop.create_future()

    # What comes

    def _take(self, frame: Frame) -> None:
        self._in_turn = True
        kind = frame.kind
        if kind == frames.CALL:
            self.calls.begin(frame)
        elif self.asks.is_answer(kind):
            self._woken = self.asks.answered(frame) or self._woken
        elif kind == frames.CANCEL:
            frame.ends()
            self.calls.cancel(frame.id)
        elif kind == frames.WATCHED:
            self.watches.show(frame)
        elif kind == frames.LEVEL:
            level = frame.u8()
            frame.ends()
            self.log.set_most(level)
        else:
            self.lifecycle.begin(frame)

    _woken = False

    def _not_taken(self, frame: Frame, error: Exception) -> None:
        """What a frame asks for cannot be begun, of memory that is not there as an example."""
        if frame.kind in frames.ASKING:
            self.calls.fails(frame.id, code_of(error), message_of(error))
        else:
            text = f"a frame {frame.name} is passed over: {summary_of(error)}"
            self.log.say(WARN, __name__, text)

    def _turn_ends(self) -> None:
        """What was read is done as far as it can be: what there is to say goes now."""
        self._in_turn = False
        self.out.flush()
        if self._woken:
            # Whoever was woken runs in the next turn, and this behind them.
            self._woken = False
            self._flush_later()

    def schedule_flush(self) -> None:
        """Something waits to be sent: it goes with all else of this turn."""
        if running_loop() is self.loop:
            if not self._in_turn:
                self._flush_later()
        else:
            self.loop.call_soon_threadsafe(self.out.flush)

    def _flush_later(self) -> None:
        if not self._flushes:
            self._flushes = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushes = False
        self.out.flush()

    # Life

    def start(self, came: list[Frame]) -> None:
        """Reads from here on, with this process's loop running, behind what came already."""
        self.out.schedule = self.schedule_flush
        self.reader.turn_ends = self._turn_ends
        self.loop.set_task_factory(self._make_task)  # type: ignore[arg-type, unused-ignore]
        self.log.install()
        self.reader.start(self.loop, came)

    def goes_live(self) -> None:
        """An instance is made: the host takes what it asks for."""
        self.is_live = True
        self._live.set()
        self.log.open()

    async def wait_until_live(self) -> None:
        """Waits for that."""
        await self._live.wait()

    # Tasks of the module

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        context = options.get("context")
        ref = context.run(current_ref) if context is not None else current_ref()
        running = ref is not None and ref.is_running
        refusal = None if running else self._refused_task()
        if refusal is not None:
            coro.close()
            raise refusal
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
        self._tasks[task] = ref
        task.add_done_callback(self._task_ended)
        if ref is not None and ref.number:
            ref.hold()
            task.add_done_callback(ref.let_go)
        return task

    def _refused_task(self) -> EventRefused | None:
        if self._tasks_closed:
            text = f"{self.plugin} is being retired and cannot start tasks any more"
            return EventRefused(RefusalCode.RETIRING, text)
        limit = self.limits.tasks
        if len(self._tasks) >= limit and self.background_tasks >= limit:
            text = (
                f"{self.plugin} runs {limit} background tasks, and no more are allowed "
                "(limits.background_tasks)"
            )
            return EventRefused(RefusalCode.TOO_MANY_TASKS, text)
        return None

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    @property
    def background_tasks(self) -> int:
        """Tasks of the module that belong to no call that runs."""
        refs = list(self._tasks.values())
        return sum(ref is None or not ref.is_running for ref in refs)

    async def end_tasks(self, *, all: bool) -> None:
        """Cancels the tasks that belong to no call that runs, or all of them, takes no more, and
        waits until nothing of them is left."""
        self._tasks_closed = True
        while True:
            tasks = [
                task
                for task, ref in self._tasks.items()
                if not task.done() and (all or ref is None or not ref.is_running)
            ]
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def internal_task(self, coro: Any) -> asyncio.Task[Any]:
        """A task of the worker's own, which is none of the module's."""
        return asyncio.Task(coro, loop=self.loop)

    def begun_task(self, coro: Any) -> asyncio.Task[Any]:
        """The same, begun before whatever follows, where tasks can be."""
        if EAGER:
            return asyncio.Task(coro, loop=self.loop, eager_start=True)  # type: ignore[call-arg, unused-ignore]
        return self.internal_task(coro)

    # What the module asks for beside what `Asks` does

    @asynccontextmanager
    async def watch(self, patterns: Sequence[str], capacity: int) -> AsyncIterator[Events]:
        number, events = await self.watches.begin_watch(patterns, capacity)
        try:
            yield events
        finally:
            self.watches.end_watch(number)

    def subscribe(self, handler: EventHandler) -> None:
        self.lifecycle.declared_late(handler)

    def unsubscribe(self, handler: EventHandler) -> None:
        self.watches.unsubscribe(handler)

    # Health

    def _pong(self, number: int) -> None:
        """The host asks whether the process is there. On any thread."""
        self.out.put(frames.STATS, 0, payload=self._stats())
        self.out.put_now(frames.PONG, number)

    def _stats(self) -> bytes:
        return codec.dumps(
            {
                "memory": _memory_in_use(),
                "tasks": self.background_tasks,
                "kept_contexts": self.calls.kept_contexts,
                "calls": self.calls.running,
            }
        )


def _memory_in_use() -> int:
    """Bytes of memory that this process has, or 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
