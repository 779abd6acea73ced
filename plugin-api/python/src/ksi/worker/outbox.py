"""What goes to the host: frames of one turn together, or one at once.

A write may wait, because the host takes what comes whatever it is doing. So nothing piles up here:
whoever has much to say is held up by the socket.
"""

from __future__ import annotations

import array
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Union

from .frames import (
    FRAME_LIMIT,
    HEAD,
    IN_FILE_FROM,
    PAYLOAD_IN_FILE,
    U64,
    memory_file,
)

#: Bytes that wait for the end of a turn, at the most.
_WAITING: Final = 256 << 10

_Piece = Union[bytes, "tuple[bytes, int]"]


class TooLong(Exception):
    """What is to be sent does not fit into a frame."""


class Outbox:
    """The writing side of a socket. Frames may come from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.limit = FRAME_LIMIT
        # Never exchanged for another one: an append and a take from two threads lose nothing.
        self._pieces: deque[_Piece] = deque()
        self._waiting = 0
        self._lock = threading.Lock()
        #: Sends what waits at the end of a turn: of the loop, once there is one.
        self.schedule: Callable[[], None] = self.flush
        self._broken = False
        self._forgotten = False

    def forget(self) -> None:
        """Sends nothing from here on: this process is a copy of the one that the host knows."""
        self._forgotten = self._broken = True
        # Another thread may have had it at the fork, and is none of this process's.
        self._lock = threading.Lock()
        self._pieces.clear()

    def put(
        self, kind: int, id: int, body: bytes = b"", payload: bytes = b"", flags: int = 0
    ) -> None:
        """Adds a frame to those that go at the end of the turn.

        Raises:
            TooLong: no frame has so many bytes. Nothing was added.
        """
        if self._forgotten:
            return
        if len(payload) > IN_FILE_FROM:
            file = memory_file(payload)
            if file >= 0:
                body += U64.pack(len(payload))
                head = HEAD.pack(len(body), kind, flags | PAYLOAD_IN_FILE, 1, id)
                self._add((head + body, file))
                return
        length = len(body) + len(payload)
        if length > self.limit:
            raise TooLong(f"it has {length} bytes, and a frame may have {self.limit}")
        self._add(HEAD.pack(length, kind, flags, 0, id) + body + payload)

    def put_now(
        self, kind: int, id: int, body: bytes = b"", payload: bytes = b"", flags: int = 0
    ) -> None:
        """Adds a frame, and sends all that waits."""
        self.put(kind, id, body, payload, flags)
        self.flush()

    def put_later(self, kind: int, id: int) -> None:
        """Adds a frame without a body, and takes no lock: what the collector of garbage drops may
        call this wherever that happens to run, also inside of :meth:`flush`."""
        if not self._forgotten:
            self._pieces.append(HEAD.pack(0, kind, 0, 0, id))
            self.schedule()

    def put_descriptor(self, kind: int, id: int, body: bytes, descriptor: int) -> None:
        """Adds a frame with a copy of a descriptor."""
        copy = os.dup(descriptor)
        self._add((HEAD.pack(len(body), kind, 0, 1, id) + body, copy))

    def _add(self, piece: _Piece) -> None:
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting > _WAITING:
            self.flush()
        else:
            self.schedule()

    def flush(self) -> None:
        """Sends what waits, in its order."""
        if not self._pieces:
            return
        with self._lock:
            self._waiting = 0
            try:
                self._send([self._pieces.popleft() for _ in range(len(self._pieces))])
            except OSError:
                # A host that takes no more is gone, which whoever reads finds out.
                self._broken = True

    def _send(self, pieces: list[_Piece]) -> None:
        plain: list[bytes] = []
        for piece in pieces:
            if isinstance(piece, bytes):
                plain.append(piece)
                continue
            if plain:
                self._send_plain(plain)
                plain = []
            frame, descriptor = piece
            try:
                along = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
                if not self._broken:
                    sent = self._socket.sendmsg([frame], along)
                    self._send_all(frame[sent:])
            finally:
                os.close(descriptor)
        if plain:
            self._send_plain(plain)

    def _send_plain(self, pieces: list[bytes]) -> None:
        try:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except MemoryError:
            for piece in pieces:
                self._send_all(piece)
        else:
            self._send_all(data)

    def _send_all(self, data: bytes) -> None:
        if data and not self._broken:
            self._socket.sendall(data)
