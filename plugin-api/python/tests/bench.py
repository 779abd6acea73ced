"""Requests a second: a module in a worker, against the same module in a bare asyncio loop.

``python3 -m tests.bench [SECONDS]``, in the folder above this one. The host is a program of its own
that does nothing but write calls and read their ends, so that what is measured is the worker.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import sys
import tempfile
import time

from . import SOURCES
from .host import FakeHost

MODULE = """
from ksi.events import event_handler, emit_event
from ksi.types import StateUpdate

_state = {}

@event_handler("state:update")
async def update(data: StateUpdate):
    namespace = _state.setdefault(data["namespace"], {})
    if data["operation"] == "set":
        namespace[data["key"]] = data["value"]
        return {"status": "set"}
    return {"value": namespace.get(data["key"])}
"""
SET = {"namespace": "bench", "key": "k", "operation": "set", "value": {"text": "x" * 60, "n": 1}}
GET = {"namespace": "bench", "key": "k", "operation": "get"}
HEAD = struct.Struct("<IBBHQ")


def worker(host: FakeHost, in_flight: int, seconds: float) -> float:
    """Calls a second."""
    frame = host.call_frame("update", "state:update", {}) + json.dumps(GET).encode()
    host.socket.settimeout(10)
    number, ended, buffer = 1 << 20, 0, b""

    def calls(count: int) -> bytes:
        nonlocal number
        parts = []
        for _ in range(count):
            number += 1
            parts += (HEAD.pack(len(frame), 16, 0, 0, number), frame)
        return b"".join(parts)

    began = time.perf_counter()
    host.socket.sendall(calls(in_flight))
    while True:
        buffer += host.socket.recv(1 << 16)
        at = came = 0
        while len(buffer) - at >= 16:
            end = at + 16 + int.from_bytes(buffer[at : at + 4], "little")
            if end > len(buffer):
                break
            if buffer[at + 4] != 17:
                raise SystemExit(f"no reply: {buffer[at:end]!r}")
            at, came = end, came + 1
        buffer = buffer[at:]
        ended += came
        taken = time.perf_counter() - began
        if taken > seconds and ended % in_flight == 0:
            rest = number - (1 << 20) - ended
            if rest == 0:
                return ended / taken
        elif came and taken <= seconds:
            host.socket.sendall(calls(came))


BARE = f"""
import asyncio, json, socket, sys
sys.path.insert(0, {SOURCES!r})
{MODULE}
async def main():
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=0))
    async def one(line):
        writer.write(json.dumps(await update(json.loads(line))).encode() + b"\\n")
    while line := await reader.readline():
        asyncio.create_task(one(line))
asyncio.run(main())
"""


def bare(in_flight: int, seconds: float) -> float:
    """The same module behind asyncio's own streams, a task a line: what somebody would write."""
    import socket
    import subprocess

    ours, theirs = socket.socketpair()
    process = subprocess.Popen([sys.executable, "-B", "-c", BARE], stdin=theirs)
    theirs.close()
    line = json.dumps(GET).encode() + b"\n"
    ours.sendall(json.dumps(SET).encode() + b"\n")
    ours.recv(1 << 16)
    ended = sent = 0
    began = time.perf_counter()
    ours.sendall(line * in_flight)
    sent = in_flight
    while True:
        came = ours.recv(1 << 16).count(b"\n")
        ended += came
        taken = time.perf_counter() - began
        if taken > seconds and ended == sent:
            break
        if taken <= seconds:
            ours.sendall(line * came)
            sent += came
    ours.close()
    process.kill()
    process.wait()
    return ended / taken


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    print(platform.python_implementation(), platform.python_version())
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state_manager.py")
        with open(path, "w") as file:
            file.write(MODULE)
        host = FakeHost()
        host.open(path, level=0)
        host.create()
        host.asked("update", SET)
        best: dict[tuple[str, int], float] = {}
        for _ in range(3):
            for in_flight in (1, 64):
                for name, run in (("worker", lambda n, s: worker(host, n, s)), ("bare", bare)):
                    key = name, in_flight
                    best[key] = max(best.get(key, 0), run(in_flight, seconds))
        host.close()
    for in_flight in (1, 64):
        ours, theirs = best["worker", in_flight], best["bare", in_flight]
        print(
            f"{in_flight:2} in flight: {ours:7,.0f}/s in a worker, {theirs:7,.0f}/s in a bare loop "
            f"({theirs / ours:.2f} times)"
        )


if __name__ == "__main__":
    main()
