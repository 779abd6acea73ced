"""What plugins of pluggy know together: the state of one module, and calls of historic hooks."""

from __future__ import annotations

import logging
from typing import Any, Final

from . import history
from .history import History
from .one_thread import OneThread
from .state import State, StateError, read

_log = logging.getLogger(__name__)

#: What a snapshot has that has calls of historic hooks; beside it, the state of the module.
_HISTORY: Final = "ksi_pluggy_history"
_MODULE: Final = "state"


class PluggyState:
    """A snapshot is that of the module, where no call is remembered."""

    def __init__(self, module: State, history: History, thread: OneThread, most: int) -> None:
        self._module, self._history, self._thread = module, history, thread
        #: Bytes that a snapshot may have.
        self._most = most
        self._keeps_history = history.is_kept
        self.keep = module.keep

    def describe(self) -> dict[str, list[int]] | None:
        """As that of a module."""
        of_history = {"writes": [1], "restores": [1]} if self._keeps_history else None
        return self._module.describe() or of_history

    async def snapshot(self, version: int) -> bytes:
        """What they know."""
        state = b""
        if self._module.form or not self._keeps_history:
            state = await self._module.snapshot(version)
            if self._history.is_empty:
                return state
            state = b'"%s":%s,' % (_MODULE.encode(), state)
        form = b'{%s"%s":%s}'
        room = self._most - len(form) - len(state) - len(_HISTORY)
        calls = await self._thread.run(self._history.snapshot, room)
        return form % (state, _HISTORY.encode(), calls)

    async def restore(self, version: int, snapshot: bytes) -> None:
        """Knows from here on what is in a snapshot."""
        data = read(snapshot)
        await self._check(version, data)
        has_state, state, calls = _parts(data)
        if has_state and self._module.form:
            await self._module.take(version, state)
        if calls is not None and self._keeps_history:
            await self._thread.run(self._history.restore, calls)

    async def read_back(self, version: int, snapshot: bytes) -> None:
        """Reads a snapshot as it is restored. Changes nothing."""
        await self._check(version, read(snapshot))

    async def _check(self, version: int, data: Any) -> None:
        has_state, state, calls = _parts(data)
        if calls is not None:
            try:
                history.read(calls)
            except ValueError as error:
                raise StateError(str(error)) from None
            if not self._keeps_history:
                _log.warning("no hook is historic any more: calls that were kept are left out")
        if not has_state:
            return
        if self._module.form or not self._keeps_history:
            await self._module.check(version, state)
        else:
            _log.warning("`state` names no module any more: the state that was kept is left out")


def _parts(data: Any) -> tuple[bool, Any, Any]:
    """Whether a snapshot has the state of a module, that, and calls if it has some."""
    if isinstance(data, dict) and _HISTORY in data and data.keys() <= {_HISTORY, _MODULE}:
        return _MODULE in data, data.get(_MODULE), data[_HISTORY]
    return True, data, None

