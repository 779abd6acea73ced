"""A process that the plugin has forked: the host knows nothing of it, and it has nothing of the
host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from ..events import EventHandler
from ..refusals import EventRefused, RefusalCode
from ..watching import Events


class Forked:
    """Refuses what would wait for ever."""

    def __init__(self, config: Any, is_trial: bool) -> None:
        self.config = config
        self.is_trial = is_trial

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def emit(self, *args: Any, **more: Any) -> NoReturn:
        _refuse()

    send = resource = emit

    @asynccontextmanager
    async def watch(self, *args: Any) -> AsyncIterator[Events]:
        _refuse()
        yield

    def subscribe(self, handler: EventHandler) -> None:
        _refuse()

    def unsubscribe(self, handler: EventHandler) -> None:
        pass


def _refuse() -> NoReturn:
    raise EventRefused(
        RefusalCode.UNSUPPORTED,
        "this process is a copy that the plugin has forked of its own, and has no host: what is to "
        "be asked of it has to be handed to the plugin's own process",
    )
