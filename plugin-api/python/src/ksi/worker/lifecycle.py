"""The steps of an instance's life, each an answer to a frame of the host."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from .. import codec
from ..events import EventHandler
from . import frames
from .describe import description
from .failures import Told, code_of, loading_message, message_of, shown_as
from .frames import Frame, ProtocolError
from .limits import Open
from .outbox import TooLong
from .plugin import ModulePlugin, Plugin
from .state import StateError

if TYPE_CHECKING:
    from .session import Session


_log = logging.getLogger(__name__)

#: Seconds in which pools that are left open may do what they were given. The host gives a plugin
#: that goes five (``timeouts.shutdown``), if nobody has said something else.
_PATIENCE: Final = 2.0


class Lifecycle:
    """What is there of the plugin."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._plugin: Plugin | None = None
        self._created = False
        self._left = False
        #: What it does once it is live.
        self._begins: asyncio.Task[None] | None = None
        #: Handlers that were declared when the host took none.
        self._late: list[EventHandler] = []

    def begin(self, frame: Frame) -> None:
        """Begins what a frame asks for."""
        number, kind = frame.id, frame.kind
        if kind == frames.CREATE:
            config = frame.payload()
            self._session.goes_live()
            self._do(number, lambda: self._create(number, config))
        elif kind == frames.LIVE:
            frame.ends()
            if self._plugin is not None and self._created:
                # Up to where it waits, before the calls that come behind it.
                self._begins = self._session.begun_task(self._plugin.goes_live())
        elif kind == frames.SNAPSHOT:
            version = frame.u32()
            frame.ends()
            self._work(number, lambda: self._snapshot(version))
        elif kind in (frames.RESTORE, frames.READ_BACK):
            version, state = frame.u32(), frame.payload()
            self._work(number, lambda: self._restore(version, state, kind == frames.RESTORE))
        elif kind == frames.DETACH:
            frame.ends()
            self._do(number, lambda: self._detach(number))
        elif kind == frames.SHUTDOWN:
            frame.ends()
            self._do(number, lambda: self._shutdown(number))
        elif kind == frames.OPEN:
            message = "a process of a plugin opens one file alone"
            self._session.calls.fails(number, "open", message)
        else:
            raise ProtocolError(f"a frame {frame.name} makes no sense here")

    def _do(self, number: int, step: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await step()
            except BaseException as error:
                self._session.calls.fails(number, code_of(error), message_of(error))

        self._session.internal_task(run())

    def _work(self, number: int, work: Callable[[], Awaitable[bytes | None]]) -> None:
        if not self._created:
            message = "the plugin has no instance in this process"
            self._session.calls.fails(number, "no_instance", message)
        else:
            self._session.calls.work(number, work)

    def declared_late(self, handler: EventHandler) -> None:
        """A handler is declared while the process runs."""
        if self._plugin is None:
            return  # By the file that is being run: the description has it.
        if not self._plugin.declared_late(handler):
            return
        if self._session.is_live:
            self._session.watches.subscribe(handler)
        else:
            self._late.append(handler)

    # Steps

    def open(self, number: int) -> None:
        """Runs the file. What it says of itself is the answer."""
        session, opened = self._session, self._session.open
        try:
            plugin = _opened(opened)
            state = plugin.state
            said = description(plugin.handlers, state.describe(), state.keep)
            for place, declared in enumerate(plugin.handlers):
                session.calls.add(place, declared.handler)
            session.out.put_now(frames.OPENED, number, payload=codec.dumps(said, "its description"))
            self._plugin = plugin
            _tell_of_gevent()
        except TooLong as error:
            session.calls.fails(number, "too_large", f"its description: {error}")
        except BaseException as error:
            session.calls.fails(number, "load", loading_message(error, opened.shown))

    async def _create(self, number: int, config: bytes) -> None:
        session, plugin = self._session, self._plugin
        if plugin is None:
            return session.calls.fails(number, "load", "no module is open in this process")
        if self._created:
            message = "this process has an instance already"
            return session.calls.fails(number, "instance", message)
        session.config = codec.loads(config) if config else None
        late, self._late = self._late, []
        for handler in late:
            session.watches.subscribe(handler)
        await plugin.create(session.config)
        self._created = True
        session.out.put(frames.CREATED, number)

    async def _snapshot(self, version: int) -> bytes:
        assert self._plugin is not None
        snapshot = await self._plugin.state.snapshot(version)
        limit = self._session.limits.state
        if len(snapshot) > limit:
            raise StateError(f"the state has {len(snapshot)} bytes, and {limit} are allowed")
        return snapshot

    async def _restore(self, version: int, state: bytes, restores: bool) -> None:
        assert self._plugin is not None
        if restores:
            await self._plugin.state.restore(version, state)
        else:
            await self._plugin.state.read_back(version, state)

    async def _detach(self, number: int) -> None:
        await self._leave()
        self._session.out.put(frames.NO_REPLY, number)

    async def _leave(self) -> None:
        if self._plugin is not None and self._created and not self._left:
            # A process that is shut down has been detached before, unless it never was live.
            self._left = True
            if self._begins is not None and not self._begins.done():
                self._begins.cancel()
                await asyncio.wait([self._begins])
            await self._plugin.ends()
        self._session.watches.close()
        await self._session.end_tasks(all=False)

    async def _shutdown(self, number: int) -> None:
        session = self._session
        await self._leave()
        await session.calls.end()
        await session.end_tasks(all=True)
        # What the interpreter does at the end of a process, which ends without it.
        await _end_pools()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        session.out.put_now(frames.BYE, number)
        os._exit(0)


def _opened(opened: Open) -> Plugin:
    kind = opened.python.kind
    if kind == "module":
        return ModulePlugin(opened)
    if kind == "pluggy":
        from .pluggy_plugin import PluggyPlugin

        return PluggyPlugin(opened)
    raise Told(f"this worker runs no plugins of the kind {kind!r}")


def _tell_of_gevent() -> None:
    """Tells of patches with which threads of this process wait for a loop that nobody runs."""
    is_patched = getattr(sys.modules.get("gevent.monkey"), "is_module_patched", None)
    if is_patched is None:
        return
    patched = [it for it in ("threading", "queue") if is_patched(it)]
    if patched:
        _log.warning(
            "gevent has patched %s: calls of ordinary functions may never end. What they run on is "
            "left alone by monkey.patch_all(thread=False, queue=False)",
            " and ".join(patched),
        )


async def _end_pools() -> None:
    """Has pools that the module has left open do what they were given, and end. Processes that take
    too long are ended, and threads end with this process.

    The interpreter does it before what `atexit` has: that waits for the processes of a pool, which
    nobody has told to go.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        try:
            for each in reversed(_before_the_end()):
                each()
        finally:
            loop.call_soon_threadsafe(ended.set_result, None)

    try:
        # What they still do may need the loop.
        threading.Thread(target=end, name="ksi-pools", daemon=True).start()
    except RuntimeError:
        return  # No thread more can be had.
    done, _ = await asyncio.wait([ended], timeout=_PATIENCE)
    if not done and "multiprocessing" in sys.modules:
        import multiprocessing

        for process in multiprocessing.active_children():
            process.terminate()


def _before_the_end() -> list[Callable[[], object]]:
    """What libraries have asked the interpreter to do before it waits for threads."""
    return list(getattr(threading, "_threading_atexits", ()))


def shows(copy: str, shown: str) -> None:
    """What runs as ``copy`` was copied from ``shown``."""
    if copy and shown:
        shown_as[copy] = shown
