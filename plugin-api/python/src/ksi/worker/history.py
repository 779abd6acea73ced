"""Calls of historic hooks, which pluggy remembers for plugins that are registered later.

It remembers all of them, which a program can afford that makes a few; here each is an event that
anybody may emit. So the oldest are forgotten beyond a bound.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from .. import codec

#: Calls of one hook, and bytes of JSON of their arguments, that are remembered.
_CALLS: Final = 1_024
_BYTES: Final = 16 << 20


class History:
    """What is remembered of them."""

    def __init__(self) -> None:
        #: By the hook's name, the oldest first: the arguments, and how long they are.
        self._calls: dict[str, deque[tuple[dict[str, Any], int]]] = {}
        self._bytes: dict[str, int] = {}

    def call(self, hook: Any, arguments: dict[str, Any]) -> list[Any]:
        """Calls a historic hook; what its implementations give that there are now."""
        results: list[Any] = []
        taken = [results]

        def take(result: Any) -> None:
            # Those that are registered later give theirs to nobody.
            if taken:
                results.append(result)

        hook.call_historic(result_callback=take, kwargs=arguments)
        taken.clear()
        self._remember(hook, arguments)
        return results

    def _remember(self, hook: Any, arguments: dict[str, Any]) -> None:
        calls = self._calls.setdefault(hook.name, deque())
        size = len(codec.dumps(arguments))
        calls.append((arguments, size))
        held = self._bytes.get(hook.name, 0) + size
        while len(calls) > _CALLS or held > _BYTES:
            oldest, size = calls.popleft()
            held -= size
            _forget(hook, oldest)
        self._bytes[hook.name] = held


def _forget(hook: Any, arguments: dict[str, Any]) -> None:
    history: list[Any] = getattr(hook, "_call_history", None) or []
    for place, call in enumerate(history):
        if call[0] is arguments:
            del history[place]
            return
