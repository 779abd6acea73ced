"""A host in Python: the other end of the socket, over a real pair of sockets to a real process."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
from collections.abc import Iterator, Sequence
from typing import Any

from . import SOURCES

HEAD = struct.Struct("<IBBHQ")
NAMES = {
    1: "HELLO", 3: "OPENED", 5: "CREATED", 8: "BYE", 17: "REPLY", 18: "NO_REPLY", 19: "FAILED",
    20: "PANICKED", 21: "RELEASE", 22: "CANCEL", 32: "EMIT", 35: "SUBSCRIBE", 36: "UNSUBSCRIBE",
    37: "WAIT", 39: "WATCH", 41: "UNWATCH", 42: "LOG", 43: "SPAN", 44: "SPAN_END", 48: "LISTEN",
    49: "KEEP", 50: "KEPT", 51: "STOP_KEEPING", 81: "PONG", 82: "STATS",
}  # fmt: skip
KINDS = {
    "OPEN": 2, "CREATE": 4, "DETACH": 6, "SHUTDOWN": 7, "LIVE": 9, "CALL": 16, "CANCEL": 22, "REPORT": 33,
    "REFUSED": 34, "WAITED": 38, "WATCHED": 40, "LEVEL": 45, "DESCRIPTOR": 52, "DONE": 53,
    "NOTHING": 54, "SNAPSHOT": 64, "RESTORE": 65, "READ_BACK": 66, "PING": 80,
}  # fmt: skip
#: Frames that come unasked.
UNASKED = ("STATS", "LOG")
BOOTSTRAP = f"import sys; sys.path.insert(0, {SOURCES!r}); from ksi.worker import main; main()"


class Ended(Exception):
    """The worker's socket is at its end."""


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def text(value: str) -> bytes:
    encoded = value.encode()
    return u32(len(encoded)) + encoded


class Fields:
    """The body of a frame, read from its front."""

    def __init__(self, body: bytes) -> None:
        self.body, self.at = body, 0

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self.body, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def blob(self) -> bytes:
        length = self.take("I")
        self.at += length
        return self.body[self.at - length : self.at]

    def text(self) -> str:
        return self.blob().decode()

    def attributes(self) -> dict[str, str]:
        return {self.text(): self.text() for _ in range(self.take("I"))}

    def rest(self) -> bytes:
        at, self.at = self.at, len(self.body)
        return self.body[at:]


class Frame:
    """What a worker has sent."""

    def __init__(self, kind: int, flags: int, id: int, body: bytes, descriptor: int) -> None:
        self.kind = NAMES[kind]
        self.flags, self.id, self.body, self.descriptor = flags, id, body, descriptor

    @property
    def in_file(self) -> bool:
        return bool(self.flags & 1)

    @property
    def keeps(self) -> bool:
        return bool(self.flags & 2)

    def payload(self, of: Fields | None = None) -> bytes:
        rest = of.rest() if of else self.body
        if not self.in_file:
            return rest
        (length,) = struct.unpack("<Q", rest)
        seals = fcntl.fcntl(self.descriptor, 1034)
        assert seals & 0xE == 0xE, "the memory file is not sealed"
        try:
            return os.pread(self.descriptor, length, 0)
        finally:
            os.close(self.descriptor)

    def json(self) -> Any:
        return json.loads(self.payload())

    def failure(self) -> tuple[str, str]:
        assert self.kind == "FAILED", self
        fields = Fields(self.body)
        return fields.text(), self.payload(fields).decode()

    def emit(self) -> Emit:
        assert self.kind == "EMIT", self
        return Emit(self)

    def log(self) -> tuple[int, int, str, str]:
        """Call, level, target and message."""
        fields = Fields(self.body)
        call, _, level = fields.take("Q"), fields.take("Q"), fields.take("B")
        target, _, message = fields.text(), fields.text(), fields.text()
        return call, level, target, message

    def __repr__(self) -> str:
        return f"<{self.kind} {self.id} {self.flags:#x} {self.body[:200]!r}>"


class Emit:
    """An event that a worker emits."""

    def __init__(self, frame: Frame) -> None:
        fields = Fields(frame.body)
        self.id = frame.id
        self.how, self.form, self.call = fields.take("B"), fields.take("B"), fields.take("Q")
        self.timeout, self.depth, self.name = fields.take("Q"), fields.take("I"), fields.text()
        self.attributes = fields.attributes()
        self.data = json.loads(frame.payload(fields))


class FakeHost:
    """The host's end, and the process of one worker."""

    def __init__(
        self,
        python: str = sys.executable,
        options: Sequence[str] = ("-I", "-B"),
        environment: dict[str, str] | None = None,
    ) -> None:
        ours, theirs = socket.socketpair()
        self.socket = ours
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [python, *options, "-c", BOOTSTRAP],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            start_new_session=True,
            env=environment,
        )
        theirs.close()
        self._buffer = b""
        self._together: bytearray | None = None
        self._descriptors: list[int] = []
        self._number = 0
        self._waiting: list[Frame] = []
        #: What came unasked.
        self.unasked: list[Frame] = []
        self.handlers: dict[str, int] = {}
        self.description: Any = None

    # Frames

    def number(self) -> int:
        self._number += 1
        return self._number

    def put(
        self,
        kind: str,
        body: bytes = b"",
        payload: bytes = b"",
        *,
        id: int | None = None,
        flags: int = 0,
        descriptor: int = -1,
    ) -> int:
        """Sends a frame; its number."""
        id = self.number() if id is None else id
        body += payload
        head = HEAD.pack(len(body), KINDS[kind], flags, int(descriptor >= 0), id)
        if self._together is not None:
            assert descriptor < 0
            self._together += head + body
        elif descriptor < 0:
            self.socket.sendall(head + body)
        else:
            along = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            sent = self.socket.sendmsg([head + body], along)
            # Not nothing, which fails as well where the worker has ended of what has come.
            if sent < len(head) + len(body):
                self.socket.sendall((head + body)[sent:])
        return id

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Frames of the body of this go at once, in one write."""
        self._together = bytearray()
        yield
        frames, self._together = self._together, None
        self.socket.sendall(frames)

    def put_in_file(self, kind: str, body: bytes, payload: bytes, *, seals: int = 0xF) -> int:
        """Sends a frame whose payload is in a memory file."""
        file = os.memfd_create("payload", os.MFD_ALLOW_SEALING)
        os.write(file, payload)
        if seals:
            fcntl.fcntl(file, 1033, seals)
        body += struct.pack("<Q", len(payload))
        number = self.put(kind, body, flags=1, descriptor=file)
        os.close(file)
        return number

    def read(self, timeout: float = 10.0) -> Frame:
        """The next frame, of whatever kind."""
        ends = time.monotonic() + timeout
        while True:
            frame = self._whole()
            if frame is not None:
                return frame
            self.socket.settimeout(max(0.001, ends - time.monotonic()))
            try:
                data, along, _, _ = self.socket.recvmsg(1 << 16, 1 << 10)
            except ConnectionResetError:
                raise Ended(self.words()) from None
            for _, _, content in along:
                came = array.array("i")
                came.frombytes(content)
                self._descriptors += came
            if not data:
                raise Ended(self.words())
            self._buffer += data

    def _whole(self) -> Frame | None:
        if len(self._buffer) < HEAD.size:
            return None
        length, kind, flags, announced, id = HEAD.unpack_from(self._buffer)
        end = HEAD.size + length
        if len(self._buffer) < end:
            return None
        body, self._buffer = self._buffer[HEAD.size : end], self._buffer[end:]
        return Frame(kind, flags, id, body, self._descriptors.pop(0) if announced else -1)

    def next(self, timeout: float = 10.0) -> Frame:
        """The next frame that was asked for."""
        if self._waiting:
            return self._waiting.pop(0)
        while True:
            frame = self.read(timeout)
            if frame.kind not in UNASKED:
                return frame
            self.unasked.append(frame)

    def until(self, kind: str, id: int | None = None, timeout: float = 10.0) -> Frame:
        """The next frame of that kind and number. Others wait."""
        others: list[Frame] = []
        try:
            while True:
                frame = self.next(timeout) if kind not in UNASKED else self.read(timeout)
                if frame.kind == kind and (id is None or frame.id == id):
                    return frame
                others.append(frame)
        finally:
            self._waiting = others + self._waiting

    def logs(self) -> list[tuple[int, int, str, str]]:
        """The lines that have come so far."""
        self.ping()
        return [frame.log() for frame in self.unasked if frame.kind == "LOG"]

    # Life

    def open(self, path: str, *, wait: bool = True, **options: Any) -> Frame:
        """Has a file opened; what the worker says to that."""
        hello = self.next()
        assert hello.kind == "HELLO", hello
        self.hello = hello.json()
        said = {
            "protocol": {"major": 1, "minor": 1},
            "plugin": options.pop("plugin", os.path.basename(path).split(".")[0]),
            "path": list(os.fsencode(path)),
            "file": list(os.fsencode(options.pop("file", path))),
            "trial": options.pop("trial", False),
            "level": options.pop("level", 3),
            "limits": options.pop("limits", {}),
            "python": options.pop("python", {}),
            "something": "that nobody knows",
        }
        assert not options, options
        number = self.put("OPEN", json.dumps(said).encode())
        if not wait:
            return hello
        answer = self.until_any(("OPENED", "FAILED"), number)
        if answer.kind == "OPENED":
            self.description = answer.json()
            names = [it["name"] for it in self.description["handlers"]]
            self.handlers = {name: place for place, name in enumerate(names)}
        return answer

    def until_any(self, kinds: Sequence[str], id: int) -> Frame:
        others: list[Frame] = []
        while True:
            frame = self.next()
            if frame.kind in kinds and frame.id == id:
                self._waiting = others + self._waiting
                return frame
            others.append(frame)

    def create(self, config: Any = None) -> Frame:
        """Has an instance made; what the worker says to that."""
        number = self.put("CREATE", json.dumps(config).encode())
        others: list[Frame] = []
        while True:
            frame = self.next()
            if frame.id == number and frame.kind in ("CREATED", "FAILED", "PANICKED"):
                self._waiting = others + self._waiting
                return frame
            if frame.kind == "EMIT":
                self.report(frame, [])
            else:
                others.append(frame)

    def call_frame(self, handler: Any, name: str, attributes: dict[str, str], **ids: int) -> bytes:
        number = self.handlers[handler] if isinstance(handler, str) else handler
        event = ids.get("event", 7)
        head = struct.pack(
            "<QBQQQQQI",
            number,
            1,
            0,
            event,
            ids.get("parent", 0),
            ids.get("root", event),
            1_700_000_000_000_000_000,
            ids.get("depth", 0),
        )
        pairs = b"".join(text(key) + text(value) for key, value in attributes.items())
        return head + text(name) + text("tester") + u32(len(attributes)) + pairs

    def call(
        self,
        handler: Any,
        data: Any = None,
        name: str = "test:event",
        attributes: dict[str, str] | None = None,
        **ids: int,
    ) -> int:
        """Calls a handler; the number of the call."""
        body = self.call_frame(handler, name, attributes or {}, **ids)
        return self.put("CALL", body, json.dumps(data).encode())

    def ends(self, number: int, timeout: float = 10.0) -> Frame:
        """How a call ends. Emits meanwhile get no replies."""
        while True:
            frame = self.next(timeout)
            if frame.id == number and frame.kind in ("REPLY", "NO_REPLY", "FAILED", "PANICKED"):
                return frame
            if frame.kind == "EMIT":
                self.report(frame, [])
            elif frame.kind != "RELEASE":
                raise AssertionError(frame)

    def asked(self, handler: Any, data: Any = None, **more: Any) -> Any:
        """The reply of a handler."""
        end = self.ends(self.call(handler, data, **more))
        if end.kind == "NO_REPLY":
            return None
        assert end.kind == "REPLY", end
        return end.json()

    def report(
        self, emit: Frame, replies: Sequence[Any], others: bytes = b"", more: int = 0
    ) -> None:
        """What became of an event: these replies, and other outcomes."""
        outcomes = b"".join(outcome(0, reply=json.dumps(it).encode()) for it in replies)
        count = len(replies) + more
        self.put("REPORT", u32(count), outcomes + others, id=emit.id)

    def refuse(self, frame: Frame, code: int, words: str) -> None:
        self.put("REFUSED", u32(code), text(words), id=frame.id)

    def unended(self, number: int) -> bool:
        """Whether a call has not ended by now."""
        self.ping()
        return all(frame.id != number for frame in self._waiting)

    def ping(self, timeout: float = 10.0) -> float:
        """Seconds until the worker has answered."""
        began = time.monotonic()
        self.until("PONG", self.put("PING"), timeout)
        return time.monotonic() - began

    def snapshot(self, version: int = 1) -> Frame:
        return self.ends(self.put("SNAPSHOT", u32(version)))

    def restore(self, state: Any, version: int = 1, kind: str = "RESTORE") -> Frame:
        return self.ends(self.put(kind, u32(version), json.dumps(state).encode()))

    def shut_down(self) -> int:
        """Ends the worker in order; its status."""
        number = self.put("SHUTDOWN")
        while True:
            frame = self.next()
            if frame.kind == "BYE":
                assert frame.id == number
                return self.process.wait(10)
            if frame.kind == "EMIT":
                self.report(frame, [])

    def words(self) -> str:
        """What the process has written to its standard error."""
        self.process.wait(10)
        self.errors.seek(0)
        return self.errors.read().decode()

    def close(self) -> None:
        self.socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self.process.kill()
        self.process.wait()
        self.errors.close()


def outcome(
    kind: int,
    *,
    refusal: int = 0,
    plugin: str = "",
    handler: str = "",
    code: str = "",
    message: str = "",
    reply: bytes = b"",
) -> bytes:
    texts = b"".join(text(it) for it in (plugin, handler, code, message))
    return struct.pack("<BI", kind, refusal) + texts + u32(len(reply)) + reply


def passed(name: str, data: Any, **ids: int) -> bytes:
    """An event that belongs to no call."""
    head = struct.pack("<QQQQI", ids.get("event", 7), 0, 7, 1_700_000_000_000_000_000, 0)
    return head + text(name) + text("tester") + u32(0) + json.dumps(data).encode()


class WorkerTest(unittest.TestCase):
    """Has hosts, and modules in a folder of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def host(self, **options: Any) -> FakeHost:
        host = FakeHost(**options)
        self.addCleanup(host.close)
        return host

    def write(self, source: str, name: str = "sample.py") -> str:
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(textwrap.dedent(source))
        return path

    def opens(self, source: str, name: str = "sample.py", **options: Any) -> FakeHost:
        """A host whose worker has opened a module."""
        host = self.host()
        answer = host.open(self.write(source, name), **options)
        self.assertEqual(answer.kind, "OPENED", answer)
        return host

    def created(self, source: str, config: Any = None, **options: Any) -> FakeHost:
        """A host whose worker has made an instance of a module."""
        host = self.opens(source, **options)
        created = host.create(config)
        self.assertEqual(created.kind, "CREATED", created)
        return host

    def live(self, source: str, config: Any = None, **options: Any) -> FakeHost:
        """The same, with an instance that is live if this is no trial."""
        host = self.created(source, config, **options)
        if not options.get("trial"):
            host.put("LIVE", id=0)
        return host

    def refused(self, source: str, **options: Any) -> str:
        """Why a module cannot be opened."""
        host = self.host()
        code, message = host.open(self.write(source), **options).failure()
        self.assertEqual(code, "load")
        return message
