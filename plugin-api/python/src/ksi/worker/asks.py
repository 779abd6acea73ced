"""What the module asks of the host, and awaits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from .. import codec
from .._ksi_context import without_context
from .._loops import on_its_loop
from ..names import EventNameError, check_name
from ..refusals import EventRefused, RefusalCode
from . import frames
from .contexts import EventContext, context_call, current_ref
from .frames import EMIT_HEAD, U32, Frame, ProtocolError
from .log import DEBUG, WARN
from .outbox import TooLong

if TYPE_CHECKING:
    from .session import Session

_EMIT: Final = 0
_SEND: Final = 2
_JSON: Final = 1
_REPLIED: Final = 0
_NO_REPLY: Final = 1
#: Names that were found to be well-formed.
_KNOWN_NAMES: Final = 4_096
#: What a context of KSI's hands on.
_ATTRIBUTES: Final = ("_agent_id", "_client_id", "_correlation_id")
_KINDS: Final = (
    "replied", "gave no reply", "failed", "panicked", "timed out", "was rejected", "crashed",
)  # fmt: skip
_ANSWERS: Final = frozenset(
    (frames.REPORT, frames.REFUSED, frames.WAITED, frames.DESCRIPTOR, frames.DONE, frames.NOTHING)
)


class Asks:
    """What is asked for and not answered."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._out = session.out
        self.loop = session.loop
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._sent: set[int] = set()
        self._names: set[str] = set()
        self._next = 0

    def number(self) -> int:
        """One that was never used before."""
        self._next += 1
        return self._next

    # Emits

    @on_its_loop
    async def emit(
        self,
        name: str,
        data: Any,
        context: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> list[Any]:
        """Emits an event; the replies."""
        session = self._session
        if not session.is_live:
            await session.wait_until_live()
        body, payload = self._event(_EMIT, name, data, context, timeout)
        if session.is_trial:
            session.log.say(DEBUG, __name__, f"{name} is not emitted: the plugin is only tried out")
            return []
        answer = await self.ask(frames.EMIT, body, payload)
        if answer.kind != frames.REPORT:
            raise _unexpected(answer)
        return self._replies(name, answer.u32(), answer.payload())

    @on_its_loop
    async def send(self, name: str, data: Any, context: Mapping[str, Any] | None = None) -> None:
        """Emits an event whose end nobody awaits."""
        session = self._session
        if not session.is_live:
            await session.wait_until_live()
        if len(self._sent) >= session.limits.sends:
            raise EventRefused(
                RefusalCode.QUEUE_FULL,
                f"{name} is not accepted: {session.limits.sends} sent events are not handled yet; "
                "send fewer, or use emit_event, which waits",
            )
        body, payload = self._event(_SEND, name, data, context, None)
        if session.is_trial:
            return
        number = self.number()
        self._put(frames.EMIT, number, body, payload)
        self._sent.add(number)

    def _event(
        self,
        how: int,
        name: str,
        data: Any,
        context: Mapping[str, Any] | None,
        timeout: float | None,
    ) -> tuple[bytes, bytes]:
        if name not in self._names:
            try:
                check_name(name)
            except EventNameError as error:
                raise EventRefused(RefusalCode.INVALID_NAME, str(error)) from None
            if len(self._names) < _KNOWN_NAMES:
                self._names.add(name)
        try:
            payload = codec.dumps(without_context(data), f"what {name} carries")
        except codec.NotJson as error:
            raise EventRefused(RefusalCode.NOT_ENCODABLE, str(error)) from None
        limit = self._session.limits.payload
        if len(payload) > limit:
            raise EventRefused(
                RefusalCode.TOO_LARGE,
                f"the payload of {name} has {len(payload)} bytes, and {limit} are allowed "
                "(limits.payload_bytes)",
            )
        ref = current_ref() if context is None else context_call(context) or current_ref()
        attributes = _attributes(context) if context else {}
        nanoseconds = max(1, int(timeout * 1e9)) if timeout else 0
        encoded = name.encode()
        call = ref.number if ref is not None else 0
        head = EMIT_HEAD.pack(how, _JSON, call, nanoseconds, 0, len(encoded))
        return head + encoded + frames.attributes(attributes), payload

    def _replies(self, name: str, count: int, outcomes: bytes) -> list[Any]:
        replies: list[Any] = []
        at = 0
        unpack = U32.unpack_from
        for _ in range(count):
            kind, refusal = outcomes[at], unpack(outcomes, at + 1)[0]
            at += 5
            parts: list[bytes] = []
            for _ in range(5):
                length = unpack(outcomes, at)[0]
                parts.append(outcomes[at + 4 : at + 4 + length])
                at += 4 + length
            if kind == _REPLIED:
                reply = codec.loads(parts[4]) if parts[4] else None
                if reply is not None:
                    replies.append(reply)
            elif kind != _NO_REPLY:
                plugin, handler, code, message = (
                    part.decode("utf-8", "replace") for part in parts[:4]
                )
                if refusal and not handler:
                    raise EventRefused(refusal, message)
                self._failed(name, kind, plugin, handler, code, message)
        return replies

    def _failed(
        self, name: str, kind: int, plugin: str, handler: str, code: str, message: str
    ) -> None:
        how = _KINDS[kind] if kind < len(_KINDS) else "did not end well"
        what = f" ({code})" if code else ""
        text = f"a handler of {name} {how}: {plugin}.{handler}{what}: {message}"
        self._session.log.say(WARN, __name__, text)

    # Everything that has one answer

    async def ask(
        self, kind: int, body: bytes, payload: bytes = b"", descriptor: int = -1
    ) -> Frame:
        """Asks for something; what the host answers, which is no refusal."""
        limit = self._session.limits.emits
        if len(self._waiting) >= limit:
            raise EventRefused(
                RefusalCode.TOO_MANY_ASKS,
                f"{self._session.plugin} has {limit} emits and waits that are not answered, and no "
                "more are allowed in a process of its own",
            )
        number = self.number()
        if descriptor >= 0:
            self._out.put_descriptor(kind, number, body, descriptor)
        else:
            self._put(kind, number, body, payload)
        answered = self._waiting[number] = self.loop.create_future()
        try:
            answer: Frame = await answered
        except asyncio.CancelledError:
            if self._waiting.pop(number, None) is not None:
                self._out.put(frames.CANCEL, number)
            raise
        if answer.kind == frames.REFUSED:
            raise EventRefused(answer.u32(), answer.text())
        return answer

    def _put(self, kind: int, number: int, body: bytes, payload: bytes) -> None:
        try:
            self._out.put(kind, number, body, payload)
        except TooLong as error:
            raise EventRefused(RefusalCode.TOO_LARGE, f"it cannot be sent: {error}") from None

    def answered(self, frame: Frame) -> bool:
        """An answer of the host has come; whether somebody waits, who is woken by it."""
        waiting = self._waiting.pop(frame.id, None)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(frame)
                return True
        elif frame.kind == frames.REFUSED:
            # Of what was accepted here, because that could not wait.
            _, text = frame.u32(), frame.text()
            frame.ends()
            self._sent.discard(frame.id)
            self._session.watches.refused(frame.id)
            message = f"the host refuses what was accepted here before: {text}"
            self._session.log.say(WARN, __name__, message)
        else:
            self._sent.discard(frame.id)
        if frame.descriptor >= 0:
            os.close(frame.take_descriptor())
        return False

    def is_answer(self, kind: int) -> bool:
        """Whether frames of this kind answer something."""
        return kind in _ANSWERS

    @on_its_loop
    async def resource(self, verb: str, text: str, descriptor: int = -1) -> int | None:
        """Asks for a descriptor, or has one kept; the descriptor that comes back, 0 for a yes that
        has none, and ``None`` for nothing of that name."""
        kinds = {
            "listen": frames.LISTEN,
            "keep": frames.KEEP,
            "kept": frames.KEPT,
            "stop_keeping": frames.STOP_KEEPING,
        }
        if not self._session.is_live:
            await self._session.wait_until_live()
        answer = await self.ask(kinds[verb], frames.text(text), descriptor=descriptor)
        if answer.kind == frames.DESCRIPTOR:
            return answer.take_descriptor()
        if answer.kind == frames.NOTHING:
            return None
        if answer.kind == frames.DONE:
            return 0
        raise _unexpected(answer)


def _attributes(context: Mapping[str, Any]) -> dict[str, str]:
    """What an event has of a context that it would not have of its parent anyway."""
    inherited = context.inherited if isinstance(context, EventContext) else {}
    found = ((key, context.get(key)) for key in _ATTRIBUTES)
    return {
        key: str(value)
        for key, value in found
        if value is not None and inherited.get(key) != str(value)
    }


def _unexpected(frame: Frame) -> ProtocolError:
    return ProtocolError(f"a frame {frame.name} answers what it does not belong to")
