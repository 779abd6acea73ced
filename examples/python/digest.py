"""Digests of texts: `digest:request` answers at once with a number, and emits the result as
`digest:result` when it is made.

    $ ksi run --plugins examples/python
    $ ksi emit digest:request '{"text": "so it goes and so it goes"}'
"""

import asyncio
import logging
from collections import Counter
from typing import Any, Dict, TypedDict

from ksi.events import emit_event, event_handler

log = logging.getLogger(__name__)

# How many words a digest has, of the configuration of the plugin.
_words = 3
_numbers = 0
# Tasks that nobody holds may be dropped before they end.
_going: "set[asyncio.Task[None]]" = set()


class Request(TypedDict):
    """What `digest:request` takes."""

    text: str


async def initialize(router: Any) -> None:
    """Called once, before the first event."""
    global _words
    _words = (router.config or {}).get("words", _words)


@event_handler("digest:request", timeout=5)
async def request(data: Request) -> Dict[str, Any]:
    """Begins a digest; its result comes as an event."""
    global _numbers
    _numbers += 1
    task = asyncio.create_task(_make(_numbers, data["text"]))
    _going.add(task)
    task.add_done_callback(_going.discard)
    return {"number": _numbers, "status": "begun"}


async def _make(number: int, text: str) -> None:
    words = Counter(text.lower().split())
    log.info("text %d has %d words", number, sum(words.values()))
    digest = [word for word, _ in words.most_common(_words)]
    # Its parent is the request, although that has been answered by now.
    await emit_event("digest:result", {"number": number, "digest": digest})


@event_handler("digest:now")
def at_once(data: Request) -> Dict[str, Any]:
    """The same in the reply. An ordinary function may block: it has a thread of its own."""
    words = Counter(data["text"].lower().split())
    return {"digest": [word for word, _ in words.most_common(_words)]}
