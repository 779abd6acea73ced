"""Calls of handlers, from the frame that begins one to the frame that ends it."""

from __future__ import annotations

import asyncio
import functools
import struct
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from .. import codec
from ..events import EventHandler
from . import frames
from .contexts import ALONE, CallRef, EventContext, current
from .failures import code_of, message_of
from .frames import CALL_HEAD, PAYLOAD_IN_FILE, U32, Frame, ProtocolError
from .outbox import TooLong
from .threads import Threads

if TYPE_CHECKING:
    from .session import Session

#: Whether a task begins where it is made: from Python 3.12 on. A call that never waits is then over
#: without a turn of the loop.
EAGER: Final = sys.version_info >= (3, 12)
_CALL_HEAD_BYTES: Final = CALL_HEAD.size

#: What a thread is to do: taken out of its list then, so that nothing else has it.
_Work = tuple[CallRef, EventHandler, Any, EventContext]
#: Number, head of the event and attributes, as a context is made of them.
_Head = tuple[tuple[Any, ...], Frame]


class Calls:
    """Those that have begun and not ended."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._out = session.out
        self._loop = session.loop
        self.handlers: dict[int, EventHandler] = {}
        #: By the number of the handler: whether it is async and takes the data alone.
        self._plain: dict[int, Callable[..., Any]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._blocked: dict[int, Future[Any]] = {}
        #: Those of the tasks whose end nobody waits for.
        self._unawaited: set[int] = set()
        self._threads = Threads(session.plugin, session.limits.blocking_threads)
        self._kept_contexts = 0
        self._idle = asyncio.Event()

    # Handlers

    def add(self, number: int, handler: EventHandler) -> None:
        """A handler is called by this number."""
        self.handlers[number] = handler
        if handler.is_async and handler.takes_data_alone:
            self._plain[number] = handler.func

    def remove(self, number: int) -> None:
        """It is so no longer."""
        self.handlers.pop(number, None)
        self._plain.pop(number, None)

    # Counting

    @property
    def running(self) -> int:
        """Calls that have begun and not ended."""
        return len(self._tasks) + len(self._blocked)

    @property
    def kept_contexts(self) -> int:
        """Contexts of calls that are over, and are kept."""
        return self._kept_contexts

    def keeps_one_more(self) -> bool:
        """One context more is kept beyond its call, if that is allowed."""
        if self._kept_contexts >= self._session.limits.kept_contexts:
            return False
        self._kept_contexts += 1
        return True

    def release(self, number: int) -> None:
        """Nobody has the context of a call any more that was kept. From any thread."""
        self._kept_contexts -= 1
        self._out.put_later(frames.RELEASE, number)

    # Calls

    def begin(self, frame: Frame) -> None:
        """Begins a call: up to where it waits, where tasks are eager."""
        body, at, end = frame.body, frame.at, frame.end
        try:
            head = CALL_HEAD.unpack_from(body, at)
            at += _CALL_HEAD_BYTES + head[8]
            at += 4 + U32.unpack_from(body, at)[0]
            count = U32.unpack_from(body, at)[0]
            at += 4
            for _ in range(2 * count):
                at += 4 + U32.unpack_from(body, at)[0]
        except struct.error:
            at = end + 1
        if at > end:
            raise ProtocolError("a frame CALL is shorter than what it has to say")
        if head[1] > 1:
            raise ProtocolError(f"a frame CALL has the form {head[1]}")
        if frame.flags & PAYLOAD_IN_FILE:
            frame.at = at
            payload = frame.payload()
        else:
            payload = body[at:end]
        number, plain = frame.id, self._plain.get(head[0])
        if plain is not None:
            self._start(number, self._run(number, plain, None, payload, None))
            return
        handler = self.handlers.get(head[0])
        if handler is None:
            self.fails(number, "no_instance", "the plugin has no such handler in this process")
        elif handler.is_async:
            self._start(number, self._run(number, handler.func, handler, payload, (head, frame)))
        else:
            self._block(number, handler, payload, (head, frame))

    def cancel(self, number: int) -> None:
        """Nobody waits any more. It ends as it likes, and its end is told."""
        task = self._tasks.get(number)
        if task is not None:
            self._unawaited.add(number)
            task.cancel()
            return
        blocked = self._blocked.get(number)
        if blocked is not None:
            # One that has begun goes on: nobody can end a thread.
            blocked.cancel()

    async def end(self) -> None:
        """Cancels all that can be, and waits until nothing is left."""
        while self._tasks or self._blocked:
            for number in [*self._tasks, *self._blocked]:
                self.cancel(number)
            self._idle.clear()
            await self._idle.wait()

    def fails(self, number: int, code: str, message: str) -> None:
        """Whatever this number asked for ends with an error."""
        self._out.put(frames.FAILED, number, frames.text(code), message.encode("utf-8", "replace"))

    def work(self, number: int, work: Callable[[], Awaitable[bytes | None]]) -> None:
        """Begins what is no call of a handler, and ends as one does."""

        async def run() -> None:
            try:
                reply = await work()
                kind = frames.NO_REPLY if reply is None else frames.REPLY
                self._out.put(kind, number, payload=reply or b"")
            except asyncio.CancelledError:
                self._out.put(frames.FAILED, number, *_cancelled())
            except BaseException as error:
                self._out.put(frames.FAILED, number, *_failure(error))
            if number in self._tasks:
                self._ended(number)

        self._start(number, run())

    def _start(self, number: int, run: Any, ref: CallRef | None = None) -> None:
        if EAGER:
            task = asyncio.Task(run, loop=self._loop, eager_start=True)  # type: ignore[call-arg, unused-ignore]
            if not task.done():
                self._tasks[number] = task
            return
        self._tasks[number] = task = asyncio.Task(run, loop=self._loop)
        # One that is cancelled before it has begun never says so.
        task.add_done_callback(lambda _: self._never_began(number, ref))

    def _never_began(self, number: int, ref: CallRef | None) -> None:
        if number in self._tasks:
            self._ended(number)
            flags = ref.ends() if ref is not None else 0
            self._out.put(frames.FAILED, number, *_cancelled(), flags)

    async def _run(
        self,
        number: int,
        func: Callable[..., Any],
        handler: EventHandler | None,
        payload: bytes,
        head: _Head | None,
        ref: CallRef | None = None,
    ) -> None:
        if ref is None:
            ref = CallRef(number, self)
        current.set(ref)
        context: EventContext | None = None
        kind, code, reply = frames.NO_REPLY, b"", b""
        try:
            data = codec.loads(payload)
            if handler is None:
                result = await func(data)
            else:
                context = self.context(ref, head)
                if handler.passes(context["event"], data, context):
                    args, keywords = handler.arguments(data, context)
                    try:
                        result = await func(*args, **keywords)
                    finally:
                        args = keywords = None  # type: ignore[assignment]
                else:
                    result = None
            if result is not None:
                reply = self.reply(result, func)
                kind = frames.REPLY
        except asyncio.CancelledError as error:
            kind = frames.FAILED
            code, reply = _cancelled(None if number in self._unawaited else error)
        except BaseException as error:
            kind = frames.FAILED
            code, reply = _failure(error)
        if context is not None and sys.getrefcount(context) > ALONE:
            context.held = True
            ref.hold()
        flags = ref.ends()
        if number in self._tasks:
            self._ended(number)
        try:
            self._out.put(kind, number, code, reply, flags)
        except Exception as error:
            self._out.put(frames.FAILED, number, *_failure(error), flags)

    def _ended(self, number: int) -> None:
        self._tasks.pop(number, None)
        self._blocked.pop(number, None)
        self._unawaited.discard(number)
        if not self._tasks and not self._blocked:
            self._idle.set()

    def reply(self, result: Any, func: Callable[..., Any]) -> bytes:
        """The JSON of a reply."""
        name = getattr(func, "__name__", "the handler")
        reply = codec.dumps(result, f"the reply of {name}")
        if len(reply) > self._session.limits.payload:
            raise TooLong(
                f"the reply of {name} has {len(reply)} bytes, and {self._session.limits.payload} "
                "are allowed (limits.payload_bytes)"
            )
        return reply

    def context(self, ref: CallRef, head: _Head | None) -> EventContext:
        """The context of an event, as KSI's modules read it."""
        context = EventContext()
        context.call, context.held, context.inherited = ref, False, {}
        if head is None:
            return context
        (_, _, _, number, parent, root, timestamp, depth, length), frame = head
        reader = Frame(frame.kind, 0, 0, frame.body, frame.at + _CALL_HEAD_BYTES - 4, frame.end, -1)
        name, source = reader.text(), reader.text()
        context.inherited = reader.attributes()
        context.update(context.inherited)
        context.update(
            _event_id=str(number),
            _parent_event_id=str(parent) if parent else None,
            _root_event_id=str(root),
            _event_depth=depth,
            _timestamp=timestamp / 1e9,
            _source=source,
            event=name,
        )
        return context

    # Handlers that may block

    def _block(self, number: int, handler: EventHandler, payload: bytes, head: _Head) -> None:
        ref = CallRef(number, self)
        data = codec.loads(payload)
        context = self.context(ref, head)
        # What waits for its thread, and what is remembered of it there, has nothing of the call.
        work: list[_Work] = [(ref, handler, data, context)]
        del data, context
        # What it sets there is none of the next call's on the same thread.
        own = copy_context()
        future: Future[Any] = Future()
        self._blocked[number] = future
        future.add_done_callback(
            lambda future: self._loop.call_soon_threadsafe(
                self._unblocked, number, ref, handler, future
            )
        )

        def fails(error: Exception) -> None:
            if future.cancel():
                self._ended(number)
                self._out.put(frames.FAILED, number, *_failure(error))

        begin = functools.partial(own.run, _on_thread, future, work)
        self._threads.run(number, head[0][5], head[0][7], begin, fails)

    def _unblocked(
        self, number: int, ref: CallRef, handler: EventHandler, future: Future[Any]
    ) -> None:
        self._threads.ended(number)
        if self._blocked.get(number) is not future:
            return
        if future.cancelled():
            self._ended(number)
            ref.ends()
            self._out.put(frames.FAILED, number, *_cancelled())
            return
        end = future.result()
        if asyncio.iscoroutine(end):
            # An ordinary function that gives a coroutine, as wrappers do.
            async def rest(_: Any) -> Any:
                return await end

            rest.__name__ = handler.name
            self._ended(number)
            self._start(number, self._run(number, rest, None, b"null", None, ref), ref)
            return
        kind, code, reply = frames.NO_REPLY, b"", b""
        try:
            if isinstance(end, _Raised):
                kind = frames.FAILED
                code, reply = end.failure
            elif end is not None:
                reply = self.reply(end, handler.func)
                kind = frames.REPLY
        except BaseException as error:
            kind = frames.FAILED
            code, reply = _failure(error)
        self._ended(number)
        flags = ref.ends()
        try:
            self._out.put(kind, number, code, reply, flags)
        except Exception as error:
            self._out.put(frames.FAILED, number, *_failure(error), flags)


class _Raised:
    """What a handler has raised on a thread: as it is told, because the exception itself would keep
    the context."""

    def __init__(self, error: BaseException) -> None:
        self.failure = _failure(error)


def _on_thread(future: Future[Any], work: list[_Work]) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(_result_of(work))


def _result_of(work: list[_Work]) -> Any:
    ref, handler, data, context = work.pop()
    current.set(ref)
    try:
        if not handler.passes(context["event"], data, context):
            return None
        args, keywords = handler.arguments(data, context)
        try:
            return handler.func(*args, **keywords)
        finally:
            del args, keywords
    except BaseException as error:
        return _Raised(error)
    finally:
        current.set(None)
        if sys.getrefcount(context) > ALONE:
            context.held = True
            ref.hold()


def _failure(error: BaseException) -> tuple[bytes, bytes]:
    if isinstance(error, codec.NotJson):
        code, message = "not_json", str(error)
    elif isinstance(error, TooLong):
        return _too_large(error)
    else:
        code, message = code_of(error), message_of(error)
    return frames.text(code), message.encode("utf-8", "replace")


def _too_large(error: BaseException) -> tuple[bytes, bytes]:
    return frames.text("too_large"), f"it cannot be sent: {error}".encode()


def _cancelled(by_itself: BaseException | None = None) -> tuple[bytes, bytes]:
    message = "nobody waited for the call any more"
    if by_itself is not None:
        message = f"it was cancelled, and not by the host: {message_of(by_itself)}"
    return frames.text("cancelled"), message.encode("utf-8", "replace")
