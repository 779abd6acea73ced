"""The handler of letter.py in an asyncio loop that is nothing else: u32 length and JSON, in and out."""

import asyncio
import json
import socket
import struct
import sys

EAGER = {"eager_start": True} if sys.version_info >= (3, 12) else {}


async def letter(data):
    return {**data, "number": data["number"] + 1}


class Answers(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.loop, self.rest = transport, asyncio.get_running_loop(), b""

    def connection_lost(self, error):
        self.loop.stop()

    def data_received(self, data):
        buffer, at = self.rest + data, 0
        self.out = []
        while len(buffer) - at >= 4:
            (length,) = struct.unpack_from("<I", buffer, at)
            if len(buffer) - at < 4 + length:
                break
            asyncio.Task(self.answer(buffer[at + 4 : at + 4 + length]), loop=self.loop, **EAGER)
            at += 4 + length
        self.rest = buffer[at:]
        self.loop.call_soon(self.flush) if not EAGER else self.flush()

    async def answer(self, request):
        reply = json.dumps(await letter(json.loads(request)), separators=(",", ":")).encode()
        self.out.append(struct.pack("<I", len(reply)) + reply)

    def flush(self):
        self.transport.write(b"".join(self.out))


async def main():
    await asyncio.get_running_loop().create_connection(Answers, sock=socket.socket(fileno=0))
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
