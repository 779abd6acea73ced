"""Calls of historic hooks, which pluggy remembers for plugins that are registered later.

It remembers all of them, which a program can afford that makes a few; here each is an event that
anybody may emit. So the oldest are forgotten beyond a bound. What is remembered goes along with the
state, since a plugin that comes later comes with another process.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple

from .. import codec
from .failures import message_of

_log = logging.getLogger(__name__)

#: Calls of one hook that are remembered, and bytes of JSON of the arguments of all of them.
_CALLS: Final = 1_024
_BYTES: Final = 16 << 20


class _Call(NamedTuple):
    """A call that is remembered."""

    #: Grows from each call to the next, of whichever hook.
    number: int
    #: By which it is found among those that pluggy remembers.
    callback: Callable[[Any], None]
    #: JSON of its arguments, as they were before plugins had them.
    text: bytes


class History:
    """What is remembered of the calls of a manager's historic hooks."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        #: By the hook's name, the oldest first.
        self._calls: dict[str, deque[_Call]] = {}
        self._bytes = 0
        self._number = 0
        #: Of a snapshot: who has heard its calls, until all have that are there now, and the number
        #: of its last one.
        self._heard: set[str] | None = None
        self._last = 0

    @property
    def is_kept(self) -> bool:
        """Whether there are historic hooks."""
        hooks = vars(self._manager.hook).items()
        return any(hook.is_historic() for name, hook in hooks if name[0] != "_")

    @property
    def is_empty(self) -> bool:
        """Whether no call is remembered."""
        return not self._calls

    def call(self, hook: Any, arguments: dict[str, Any]) -> list[Any]:
        """Calls a historic hook; what its implementations give that there are now."""
        results: list[Any] = []
        taken = [results]

        def take(result: Any) -> None:
            # Those that are registered later give theirs to nobody.
            if taken:
                results.append(result)

        text = codec.dumps(arguments)
        try:
            hook.call_historic(result_callback=take, kwargs=arguments)
        finally:
            taken.clear()
            # Pluggy remembers those that fail, too.
            if any(it[1] is take for it in _history_of(hook)):
                self._remember(hook.name, take, text)
        return results

    def _remember(self, name: str, callback: Callable[[Any], None], text: bytes) -> None:
        calls = self._calls.setdefault(name, deque())
        self._number += 1
        calls.append(_Call(self._number, callback, text))
        self._bytes += len(text)
        if len(calls) > _CALLS:
            self._forget_oldest(name)
        while self._bytes > _BYTES:
            self._forget_oldest(min(self._calls, key=lambda it: self._calls[it][0].number))

    def _forget_oldest(self, name: str) -> None:
        oldest = self._calls[name].popleft()
        if not self._calls[name]:
            del self._calls[name]
        self._bytes -= len(oldest.text)
        history = _history_of(getattr(self._manager.hook, name))
        for place, call in enumerate(history):
            if call[1] is oldest.callback:
                del history[place]
                return

    # Over a replacement

    def snapshot(self, room: int) -> bytes:
        """The latest calls that have room in so many bytes, and who has heard them."""
        heard = codec.dumps(sorted(name for name, _ in self._plugins()))
        room -= len(heard) + len(_FORM % (b"", b""))
        calls = sorted(
            ((call.number, codec.dumps(name), call.text) for name, call in self._all()),
            reverse=True,
        )
        kept: list[bytes] = []
        for _, name, text in calls:
            encoded = b"[%s,%s]" % (name, text)
            room -= len(encoded) + 1
            if room < 0:
                _log.warning(
                    "%d of %d remembered calls of historic hooks are forgotten: the state may have "
                    "no more bytes (limits.state_bytes)",
                    len(calls) - len(kept),
                    len(calls),
                )
                break
            kept.append(encoded)
        return _FORM % (heard, b",".join(reversed(kept)))

    def restore(self, said: Any) -> None:
        """Remembers what is in a snapshot, before whatever was called since."""
        heard, calls = read(said)
        since = [(name, call, self._arguments(name)[call.callback]) for name, call in self._all()]
        since.sort(key=lambda it: it[1].number)
        for name, _, _ in since:
            self._forget_oldest(name)
        for name, arguments in calls:
            hook = getattr(self._manager.hook, name, None)
            if hook is None or not hook.is_historic():
                _log.warning("%s is no historic hook any more: a remembered call is left out", name)
            else:
                self._add(name, arguments, lambda _: None, codec.dumps(arguments))
        self._last = self._number
        for name, call, arguments in since:
            self._add(name, arguments, call.callback, call.text)
        self._heard = set(heard)

    def _add(
        self, name: str, arguments: Any, callback: Callable[[Any], None], text: bytes
    ) -> None:
        hook = getattr(self._manager.hook, name)
        with_defaults = getattr(hook, "_apply_defaults", dict)
        _history_of(hook).append((with_defaults(arguments), callback))
        self._remember(name, callback, text)

    def _arguments(self, name: str) -> dict[Callable[[Any], None], Any]:
        """Those of the calls that pluggy remembers, by their callbacks."""
        return {it[1]: it[0] for it in _history_of(getattr(self._manager.hook, name))}

    def tell_new_ones(self) -> list[Awaitable[None]]:
        """Has plugins hear the calls that were remembered before they came. What is to be awaited
        for that is given."""
        if self._heard is None:
            return []
        heard, self._heard = self._heard, None
        return [end for name, it in self._plugins() if name not in heard for end in self._tell(it)]

    def _tell(self, plugin: Any) -> Iterator[Awaitable[None]]:
        hooks = [it for it in self._manager.get_hookcallers(plugin) or () if it.is_historic()]
        found = [
            (implementation.function.__name__, hook, implementation)
            for hook in hooks
            for implementation in hook.get_hookimpls()
            if implementation.plugin is plugin
        ]
        # Pluggy tells one that is registered of one hook after the other, in this order.
        for _, hook, implementation in sorted(found, key=lambda it: it[0]):
            whose = f"plugin {implementation.plugin_name}, hook {hook.name}"
            arguments = self._arguments(hook.name)
            for call in list(self._calls.get(hook.name, ())):
                if call.number > self._last:
                    break
                given = arguments[call.callback]
                try:
                    end = implementation.function(*(given[it] for it in implementation.argnames))
                except Exception as error:
                    _failed(whose, error)
                else:
                    if inspect.isawaitable(end):
                        yield _awaited(whose, end)

    def _all(self) -> Iterator[tuple[str, _Call]]:
        return ((name, call) for name, calls in self._calls.items() for call in calls)

    def _plugins(self) -> Iterator[tuple[str, Any]]:
        """Those that are registered, with a name that the next process has for it, too."""
        for name, plugin in self._manager.list_name_plugin():
            if plugin is None:
                continue  # It is blocked.
            if name == str(id(plugin)):
                name = f"{type(plugin).__module__}.{type(plugin).__qualname__}"
            yield name, plugin


_FORM: Final = b'{"heard":%s,"calls":[%s]}'


def read(said: Any) -> tuple[list[str], list[tuple[str, dict[str, Any]]]]:
    """Who has heard the calls of a snapshot, and the calls: hooks with their arguments.

    Raises:
        ValueError: it is none of a history.
    """
    try:
        calls = [(str(name), dict(arguments)) for name, arguments in said["calls"]]
        return [str(name) for name in said["heard"]], calls
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the calls of historic hooks cannot be read: {error!r}") from None


async def _awaited(whose: str, end: Awaitable[Any]) -> None:
    try:
        await end
    except Exception as error:
        _failed(whose, error)


def _failed(whose: str, error: Exception) -> None:
    _log.error("%s failed for a call that was made before it came: %s", whose, message_of(error))


def _history_of(hook: Any) -> list[Any]:
    """What pluggy remembers by itself."""
    history: list[Any] | None = getattr(hook, "_call_history", None)
    return [] if history is None else history
