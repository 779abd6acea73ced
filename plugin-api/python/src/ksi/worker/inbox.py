"""Where bytes and descriptors come in, and whole frames are taken off."""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from typing import Final

from .frames import CALL, FRAME_LIMIT, HEAD, HEAD_BYTES, Frame, ProtocolError, check

#: What one read asks for.
ROOM: Final = 64 << 10
#: Descriptors that wait for their frames. One read gives those of one ``sendmsg`` at the most.
_DESCRIPTORS: Final = 8
_CLOSED_ON_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_ALONG: Final = socket.CMSG_LEN(4 * array.array("i").itemsize)


class Torn(Exception):
    """What has come is lost in part: nothing that follows can be read."""


class Inbox:
    """The reading side of a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.limit = FRAME_LIMIT
        self._descriptors: deque[int] = deque()
        #: The beginning of a frame whose end has not come, and how long it is to be before it is
        #: worth looking at.
        self._rest = bytearray()
        self._needed = 0

    def receive(self, flags: int) -> list[Frame] | None:
        """Reads once. The frames that are whole by then; ``None`` at the end of the stream.

        Raises:
            BlockingIOError: nothing is there, and ``flags`` say not to wait.
            ProtocolError: what came is no frame of a host.
            Torn: there is no memory for what came.
        """
        try:
            data, along, state, _ = self._socket.recvmsg(ROOM, _ALONG, flags | _CLOSED_ON_EXEC)
        except BlockingIOError:
            raise
        except OSError:
            return None
        try:
            return self._received(data, along, state)
        except MemoryError:
            raise Torn("there is no memory for what comes from the host") from None

    def _received(
        self, data: bytes, along: list[tuple[int, int, bytes]], state: int
    ) -> list[Frame] | None:
        if along:
            self._take(along)
        if state & socket.MSG_CTRUNC:
            raise ProtocolError("the system has dropped descriptors that were to come along")
        if not data:
            return None
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        return self._frames(data)

    def _frames(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        at, end = 0, len(data)
        self._needed = 0
        while end - at >= HEAD_BYTES:
            length, kind, flags, announced, number = HEAD.unpack_from(data, at)
            if length > self.limit:
                raise ProtocolError(f"a frame has {length} bytes, and may have {self.limit}")
            body = at + HEAD_BYTES
            if body + length > end:
                self._needed = HEAD_BYTES + length
                break
            descriptor = -1
            if announced:
                if announced > 1 or not self._descriptors:
                    found = len(self._descriptors)
                    raise ProtocolError(
                        f"a frame announces {announced} descriptors, and {found} have come"
                    )
                descriptor = self._descriptors.popleft()
            at = body + length
            frame = Frame(kind, flags, number, data, body, at, descriptor)
            if kind != CALL or flags or announced:
                check(frame)
            frames.append(frame)
        if at < end:
            self._rest += data[at:] if at else data
        elif self._descriptors:
            raise ProtocolError(f"{len(self._descriptors)} descriptors come without a frame")
        return frames

    def _take(self, along: list[tuple[int, int, bytes]]) -> None:
        for level, kind, content in along:
            if level != socket.SOL_SOCKET or kind != socket.SCM_RIGHTS:
                continue
            came = array.array("i")
            came.frombytes(content[: len(content) - len(content) % came.itemsize])
            for descriptor in came:
                if not _CLOSED_ON_EXEC:
                    os.set_inheritable(descriptor, False)
                self._descriptors.append(descriptor)
        if len(self._descriptors) > _DESCRIPTORS:
            raise ProtocolError(f"{len(self._descriptors)} descriptors come without a frame")
