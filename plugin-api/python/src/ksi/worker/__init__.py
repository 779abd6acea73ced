"""The process of a plugin in Python: what ``docs/worker-protocol.md`` asks of a worker.

It says HELLO as soon as it is warm and waits for OPEN; until then it is a spare that knows of no
plugin. One process runs one plugin.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import socket
import sys

# Also what is only needed behind OPEN: a spare has imported it by then.
from .. import _link, codec, compat, schemas, types
from . import frames
from .forked import Forked
from .frames import Frame, ProtocolError
from .inbox import Inbox
from .lifecycle import shows
from .limits import Open, hello, read_open
from .outbox import Outbox
from .reader import ends_for, ends_with_host
from .session import Session

__all__ = ["main"]

_WARM = (schemas, types)


def main() -> None:
    """Is that process, to its end."""
    connection = _private_socket()
    inbox, out = Inbox(connection), Outbox(connection)
    # A crash in C says where Python was.
    faulthandler.enable()
    os.register_at_fork(after_in_child=lambda: _is_copy(connection, out))
    out.put_now(frames.HELLO, 0, payload=json.dumps(hello()).encode())
    try:
        number, opened, rest = _wait_for_open(inbox, out)
    except ProtocolError as error:
        ends_for(error)
    _prepare(opened)
    loop = _new_loop()
    asyncio.set_event_loop(loop)

    async def live() -> None:
        session = Session(opened, connection, inbox, out, loop)
        _link.attach(session)
        session.start(rest)
        session.lifecycle.open(number)
        await session.ended

    # Not by `run_until_complete`, which makes a task by the factory: this one is no module's.
    life = asyncio.Task(live(), loop=loop)
    loop.run_until_complete(life)


def _private_socket() -> socket.socket:
    """The socket to the host, away from the standard input that the plugin may read."""
    try:
        # Not the number 0, and closed in what the plugin starts.
        import fcntl

        descriptor = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        connection = socket.socket(fileno=descriptor)
        if connection.family != socket.AF_UNIX:
            raise OSError("it is no Unix socket")
    except OSError as error:
        sys.exit(f"ksi worker: the host's socket cannot be had: {error}")
    connection.setblocking(True)
    return connection


def _is_copy(connection: socket.socket, out: Outbox) -> None:
    """A process that the plugin has forked is none of the host's, and keeps its socket from no
    end."""
    out.forget()
    connection.close()
    link = _link.current()
    _link.attach(Forked(link.config, link.is_trial))


def _wait_for_open(inbox: Inbox, out: Outbox) -> tuple[int, Open, list[Frame]]:
    while True:
        came = inbox.receive(0)
        if came is None:
            ends_with_host()
        for place, frame in enumerate(came):
            if frame.kind == frames.OPEN:
                try:
                    said = json.loads(frame.payload())
                except ValueError as error:
                    raise ProtocolError(f"OPEN is no JSON: {error}") from None
                return frame.id, read_open(said), came[place + 1 :]
            if frame.kind == frames.PING:
                out.put_now(frames.PONG, frame.id)
            elif frame.kind == frames.SHUTDOWN:
                os._exit(0)
            # Nothing else makes sense yet.


def _prepare(opened: Open) -> None:
    """What the plugin brings along is found from here on."""
    _link.shared, _link.own_file = opened.python.shared, opened.shown
    for folder in reversed(opened.python.path + opened.python.shared):
        if folder not in sys.path:
            # Behind this package, which is to be of the host's version.
            sys.path.insert(1, folder)
    shows(opened.path, opened.file)
    if opened.python.compat:
        compat.install()
    codec.use_orjson()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made
