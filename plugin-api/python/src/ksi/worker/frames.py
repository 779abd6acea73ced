"""Frames, as ``docs/worker-protocol.md`` has them: a head of 16 bytes and a body.

What is read strictly here is what ends a worker, with words that say what it was.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

#: u32 bytes of the body, u8 kind, u8 flags, u16 descriptors, u64 id.
HEAD: Final = struct.Struct("<IBBHQ")
HEAD_BYTES: Final = HEAD.size
#: Bytes that a body may have, until OPEN says something else.
FRAME_LIMIT: Final = 16 << 20
#: A payload that is larger goes in a memory file.
IN_FILE_FROM: Final = 256 << 10
VERSION: Final = (1, 1)

PAYLOAD_IN_FILE: Final = 1
KEEPS: Final = 2
BLOCKING: Final = 4

HELLO: Final = 1
OPEN: Final = 2
OPENED: Final = 3
CREATE: Final = 4
CREATED: Final = 5
DETACH: Final = 6
SHUTDOWN: Final = 7
BYE: Final = 8
LIVE: Final = 9
CALL: Final = 16
REPLY: Final = 17
NO_REPLY: Final = 18
FAILED: Final = 19
PANICKED: Final = 20
RELEASE: Final = 21
CANCEL: Final = 22
EMIT: Final = 32
REPORT: Final = 33
REFUSED: Final = 34
SUBSCRIBE: Final = 35
UNSUBSCRIBE: Final = 36
WAIT: Final = 37
WAITED: Final = 38
WATCH: Final = 39
WATCHED: Final = 40
UNWATCH: Final = 41
LOG: Final = 42
SPAN: Final = 43
SPAN_END: Final = 44
LEVEL: Final = 45
LISTEN: Final = 48
KEEP: Final = 49
KEPT: Final = 50
STOP_KEEPING: Final = 51
DESCRIPTOR: Final = 52
DONE: Final = 53
NOTHING: Final = 54
SNAPSHOT: Final = 64
RESTORE: Final = 65
READ_BACK: Final = 66
PING: Final = 80
PONG: Final = 81
STATS: Final = 82

#: What a host sends: the frame's name, the flags that it may have, and whether a descriptor that is
#: no payload comes along.
FROM_HOST: Final[dict[int, tuple[str, int, bool]]] = {
    OPEN: ("OPEN", PAYLOAD_IN_FILE, False),
    CREATE: ("CREATE", PAYLOAD_IN_FILE, False),
    LIVE: ("LIVE", 0, False),
    DETACH: ("DETACH", 0, False),
    SHUTDOWN: ("SHUTDOWN", 0, False),
    CALL: ("CALL", PAYLOAD_IN_FILE | BLOCKING, False),
    CANCEL: ("CANCEL", 0, False),
    REPORT: ("REPORT", PAYLOAD_IN_FILE, False),
    REFUSED: ("REFUSED", 0, False),
    WAITED: ("WAITED", PAYLOAD_IN_FILE, False),
    WATCHED: ("WATCHED", PAYLOAD_IN_FILE, False),
    LEVEL: ("LEVEL", 0, False),
    DESCRIPTOR: ("DESCRIPTOR", 0, True),
    DONE: ("DONE", 0, False),
    NOTHING: ("NOTHING", 0, False),
    SNAPSHOT: ("SNAPSHOT", 0, False),
    RESTORE: ("RESTORE", PAYLOAD_IN_FILE, False),
    READ_BACK: ("READ_BACK", PAYLOAD_IN_FILE, False),
    PING: ("PING", 0, False),
}

#: Those that are answered with FAILED if they cannot be done.
ASKING: Final = frozenset((OPEN, CREATE, DETACH, SHUTDOWN, CALL, SNAPSHOT, RESTORE, READ_BACK))
#: Handler, form, nanoseconds left, id, parent, root, timestamp, depth of a CALL, and the length of
#: its name.
CALL_HEAD: Final = struct.Struct("<QBQQQQQII")
#: How, form, call, timeout, depth of an EMIT, and the length of its name.
EMIT_HEAD: Final = struct.Struct("<BBQQII")
EVENT_HEAD: Final = struct.Struct("<QQQQI")
U32: Final = struct.Struct("<I")
U64: Final = struct.Struct("<Q")

_SEALS: Final = 0x8 | 0x4 | 0x2  # F_SEAL_WRITE, F_SEAL_GROW, F_SEAL_SHRINK
_SEAL_SEAL: Final = 0x1
_ADD_SEALS: Final = 1033
_GET_SEALS: Final = 1034


class ProtocolError(Exception):
    """The other side says what makes no sense. Nothing that follows can be read."""


class Frame:
    """One whole frame whose body is not read yet."""

    __slots__ = ("kind", "flags", "id", "body", "at", "end", "descriptor")

    def __init__(
        self,
        kind: int,
        flags: int,
        id: int,
        body: bytes,
        at: int,
        end: int,
        descriptor: int,
    ) -> None:
        self.kind = kind
        self.flags = flags
        #: A number of whoever began what it is about.
        self.id = id
        #: What the body lies in, between ``at`` and ``end``.
        self.body = body
        self.at = at
        self.end = end
        #: -1 for none. Whoever takes it sets it to -1.
        self.descriptor = descriptor

    @property
    def name(self) -> str:
        known = FROM_HOST.get(self.kind)
        return known[0] if known else f"of kind {self.kind}"

    def u8(self) -> int:
        at = self._advance(1)
        return self.body[at]

    def u32(self) -> int:
        value: int = U32.unpack_from(self.body, self._advance(4))[0]
        return value

    def u64(self) -> int:
        value: int = U64.unpack_from(self.body, self._advance(8))[0]
        return value

    def blob(self) -> bytes:
        length = self.u32()
        at = self._advance(length)
        return self.body[at : at + length]

    def text(self) -> str:
        found = self.blob()
        try:
            return found.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"a text in a frame {self.name} is no UTF-8: {error}") from None

    def attributes(self) -> dict[str, str]:
        return {self.text(): self.text() for _ in range(self.u32())}

    def payload(self, limit: int = 1 << 62) -> bytes:
        """What is left of the body, or what stands in a memory file in its place."""
        if not self.flags & PAYLOAD_IN_FILE:
            if self.end - self.at > limit:
                raise ProtocolError(
                    f"the payload of a frame {self.name} has {self.end - self.at} bytes, and may "
                    f"have {limit}"
                )
            at, self.at = self.at, self.end
            return self.body[at : self.end]
        length = self.u64()
        self.ends()
        descriptor, self.descriptor = self.descriptor, -1
        try:
            return read_memory_file(descriptor, length, limit)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def take_descriptor(self) -> int:
        """The descriptor that came along, for the caller to close."""
        if self.descriptor < 0:
            raise ProtocolError(f"a frame {self.name} comes without its descriptor")
        descriptor, self.descriptor = self.descriptor, -1
        return descriptor

    def ends(self) -> None:
        """Nothing follows what was read."""
        if self.at != self.end:
            raise ProtocolError(f"{self.end - self.at} bytes follow the end of a frame {self.name}")

    def _advance(self, count: int) -> int:
        at = self.at
        if at + count > self.end:
            raise ProtocolError(f"a frame {self.name} is shorter than what it has to say")
        self.at = at + count
        return at


def check(frame: Frame) -> None:
    """Whether a host sends such a frame.

    Raises:
        ProtocolError: it does not.
    """
    known = FROM_HOST.get(frame.kind)
    if known is None:
        raise ProtocolError(f"a host sends no frames of kind {frame.kind}")
    name, flags, has_descriptor = known
    if frame.flags & ~flags:
        raise ProtocolError(
            f"a frame {name} has the flags {frame.flags:#x}, and may have {flags:#x}"
        )
    needs = has_descriptor or bool(frame.flags & PAYLOAD_IN_FILE)
    if needs != (frame.descriptor >= 0):
        found, expected = int(frame.descriptor >= 0), int(needs)
        raise ProtocolError(
            f"a frame {name} comes with {found} descriptors, and {expected} belong to it"
        )


def text(value: str) -> bytes:
    """A text, as it goes into a body. What no UTF-8 has (lone surrogates) is replaced."""
    encoded = value.encode("utf-8", "replace")
    return U32.pack(len(encoded)) + encoded


def texts(values: list[str]) -> bytes:
    return U32.pack(len(values)) + b"".join([text(value) for value in values])


def attributes(values: dict[str, str]) -> bytes:
    if not values:
        return b"\0\0\0\0"
    pairs = [text(key) + text(value) for key, value in values.items()]
    return U32.pack(len(pairs)) + b"".join(pairs)


def memory_file(payload: bytes) -> int:
    """A sealed file in memory; its descriptor, or -1 where the system has none."""
    try:
        descriptor = os.memfd_create("ksi-payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):
        return -1
    try:
        view, at = memoryview(payload), 0
        while at < len(payload):
            at += os.pwrite(descriptor, view[at:], at)
        fcntl.fcntl(descriptor, _ADD_SEALS, _SEALS | _SEAL_SEAL)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


def read_memory_file(descriptor: int, length: int, limit: int) -> bytes:
    """What is in a memory file of another process. It is read from its front, because the offset
    is shared."""
    if length > limit:
        raise ProtocolError(f"a memory file has {length} bytes, and may have {limit}")
    try:
        seals = fcntl.fcntl(descriptor, _GET_SEALS)
    except OSError:
        seals = 0
    if seals & _SEALS != _SEALS:
        raise ProtocolError("a descriptor is none of a file in memory that is sealed")
    size = os.fstat(descriptor).st_size
    if size != length:
        raise ProtocolError(f"a memory file has {size} bytes, and {length} were announced")
    pieces: list[bytes] = []
    at = 0
    while at < length:
        piece = os.pread(descriptor, length - at, at)
        if not piece:
            raise ProtocolError("a memory file cannot be read to its end")
        pieces.append(piece)
        at += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
