"""What a module knows, given and taken as JSON.

A module has its state in one of three ways, the first that it has: functions ``snapshot()`` and
``restore(data)``; handlers of ``checkpoint:collect`` and ``checkpoint:restore``, as KSI's modules
do; globals that are kept by their names.
"""

from __future__ import annotations

import inspect
import marshal
import re
import types
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from .. import codec
from ..events import EventHandler
from ..loader import LoadedModule
from .failures import Told

#: What a checkpoint has beside the state: of the reply, and not of the module.
_OF_THE_REPLY = frozenset(("status", "_timestamp", "_response_id"))

#: How deep objects that are there stay the same ones.
_DEPTH: Final = 64

CallHandler = Callable[[EventHandler, Any], Awaitable[Any]]


Run = Callable[..., Awaitable[Any]]


async def _directly(func: Callable[..., Any], *args: Any) -> Any:
    return func(*args)


class StateError(Told):
    """A snapshot cannot be given, or cannot be restored."""

    code = "state"


class State:
    """The state of one module."""

    def __init__(
        self,
        loaded: LoadedModule,
        keep: Sequence[str] | None,
        call: CallHandler,
        collects: list[EventHandler],
        restores: list[EventHandler],
        run: Run = _directly,
    ) -> None:
        self._module = loaded.module
        #: How functions of the module are run, and its globals read and written.
        self._run = run
        self._call = call
        self._collects, self._restores = collects, restores
        self._snapshot = loaded.function("snapshot")
        self._restore = loaded.function("restore")
        self._read_back = loaded.function("read_back")
        self.version = _version(loaded.module)
        #: Globals that are kept.
        self.keep: list[str] = []
        if self._snapshot and self._restore:
            self.form = "functions"
        elif collects and restores:
            self.form = "checkpoint"
        else:
            self.keep = _kept(loaded.module, keep)
            self.form = "globals" if self.keep else ""

    def describe(self) -> dict[str, list[int]] | None:
        """The versions that it writes and restores; ``None`` if there is no state."""
        if not self.form:
            return None
        older = range(self.version - 1, 0, -1) if self._takes_version else ()
        return {"writes": [self.version], "restores": [self.version, *older]}

    @property
    def _takes_version(self) -> bool:
        return self.form == "functions" and _parameters(self._restore) >= 2

    async def snapshot(self, version: int) -> bytes:
        """What the module knows."""
        if version != self.version:
            raise StateError(f"a snapshot of version {version} is asked for, not {self.version}")
        if self.form == "functions":
            assert self._snapshot is not None
            data = await self._run(self._snapshot)
            if inspect.isawaitable(data):
                data = await data
            return _strict(data, "what snapshot() gives")
        if self.form == "checkpoint":
            return _strict(await self._collected(), "the checkpoint")
        if self.form == "globals":
            encoded: bytes = await self._run(_strict_globals, self._module, self.keep)
            return encoded
        raise StateError("the module keeps no state")

    async def restore(self, version: int, snapshot: bytes) -> None:
        """Knows from here on what is in a snapshot."""
        await self.take(version, read(snapshot))

    async def take(self, version: int, data: Any) -> None:
        """The same, of what a snapshot is the JSON of."""
        await self.check(version, data)
        if self.form == "functions":
            assert self._restore is not None
            end = await self._run(self._restore, data, *([version] * self._takes_version))
            if inspect.isawaitable(end):
                await end
        elif self.form == "checkpoint":
            for handler in self._restores:
                await self._call(handler, dict(data))
        else:
            await self._run(_restore_globals, self._module, self.keep, data)

    async def read_back(self, version: int, snapshot: bytes) -> None:
        """Reads a snapshot as it is restored. Changes nothing.

        Raises:
            StateError: it cannot be restored.
        """
        await self.check(version, read(snapshot))

    async def check(self, version: int, data: Any) -> None:
        """The same, of what a snapshot is the JSON of.

        Raises:
            StateError: it cannot be restored.
        """
        described = self.describe()
        if described is None:
            raise StateError("the module keeps no state")
        if version not in described["restores"]:
            restores = ", ".join(map(str, described["restores"]))
            raise StateError(
                f"the snapshot is of version {version}, and this restores {restores}. A module "
                "that has STATE_VERSION reads older ones if its restore takes the version: "
                "restore(data, version)"
            )
        if self.form == "functions":
            if self._read_back is not None:
                takes_version = _parameters(self._read_back) >= 2
                await self._run(self._read_back, data, *([version] * takes_version))
        elif not isinstance(data, dict):
            raise StateError(f"the snapshot is a {type(data).__name__}, and no object by names")
        elif self.form == "globals":
            _check_globals(self._module, self.keep, data)

    async def _collected(self) -> dict[str, Any]:
        together: dict[str, Any] = {}
        for handler in self._collects:
            reply = await self._call(handler, {})
            if isinstance(reply, dict):
                together.update((k, v) for k, v in reply.items() if k not in _OF_THE_REPLY)
        return together


def read(snapshot: bytes) -> Any:
    """What a snapshot is the JSON of.

    Raises:
        StateError: it is none.
    """
    try:
        return codec.loads(snapshot)
    except ValueError as error:
        raise StateError(f"the snapshot is no JSON: {error}") from None


def _kept(module: types.ModuleType, keep: Sequence[str] | None) -> list[str]:
    if keep is None:
        return ["_state"] if isinstance(getattr(module, "_state", None), (dict, list)) else []
    missing = [name for name in keep if not hasattr(module, name)]
    if missing:
        raise StateError(
            f"the module has no global {missing[0]}, which is named as one that is kept (`keep`)"
        )
    return list(keep)


def _version(module: types.ModuleType) -> int:
    version = getattr(module, "STATE_VERSION", 1)
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 1 << 32:
        raise StateError(f"STATE_VERSION is {version!r}, and a version is a number from 1 on")
    return version


def _parameters(func: Callable[..., Any] | None) -> int:
    if func is None:
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(it.kind in kinds for it in inspect.signature(func).parameters.values())


def _strict(data: Any, what: str) -> bytes:
    """The JSON of what a module gives as its state. It takes it itself, so it may give what JSON
    has one form for, as it has for tuples and lists."""
    try:
        encoded = codec.dumps(data, what)
        fault = None
        # Keys that are no texts would come back as texts, and their values would not be found.
        if codec.loads(encoded) != data:
            fault = codec.find_fault(data, comes_back=True)
    except codec.NotJson:
        fault = codec.find_fault(data, comes_back=True) or "it cannot be encoded"
    if fault is None:
        return encoded
    raise StateError(f"{what} is no JSON: {fault}{_WAY_OUT}")


def _strict_globals(module: types.ModuleType, keep: Sequence[str]) -> bytes:
    """The JSON of globals, if they come back as what they are. They are restored into the objects
    that there are, so each of them may be of a class of its own, but nothing in them."""
    plain = {name: _plain(getattr(module, name, None)) for name in keep}
    what = "the state"
    try:
        encoded = codec.dumps(plain, what)
        if _same(plain, codec.loads(encoded)):
            return encoded
        fault = codec.find_fault(plain, comes_back=True)
    except codec.NotJson:
        fault = codec.find_fault(plain, comes_back=True) or "it cannot be encoded"
    if fault is not None:
        raise StateError(f"{what} is no JSON: {_by_global(fault)}{_WAY_OUT}")
    fault = codec.find_other_type(plain)
    if fault is not None:
        raise StateError(f"{what} does not come back as it is: {_by_global(fault)}{_WAY_OUT}")
    return encoded


#: What somebody can do whose state is refused.
_WAY_OUT = ". Functions snapshot() and restore(data) in the module say what is to be kept of it"


def _plain(value: Any) -> Any:
    for kind in (dict, list):
        if isinstance(value, kind):
            return kind(value)
    return value


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, with all types in them. Not by looking at each, which takes ten
    times as long: `marshal` writes the types of what it knows, and knows no subclasses."""
    try:
        # Version 2: the later ones write whether something is referred to from elsewhere, too.
        return marshal.dumps(one, 2) == marshal.dumps(other, 2)
    except ValueError:
        return False


def _by_global(fault: str) -> str:
    return re.sub(r"\['(\w+)'\]", r"\1", fault, count=1)


def _check_globals(module: types.ModuleType, keep: Sequence[str], data: dict[str, Any]) -> None:
    for name in keep:
        old, new = getattr(module, name, None), data.get(name)
        for kind in (dict, list):
            if name in data and isinstance(old, kind) and not isinstance(new, kind):
                raise StateError(
                    f"{name} is a {kind.__name__} in the module, and a {type(new).__name__} in the "
                    "snapshot"
                )


def _restore_globals(module: types.ModuleType, keep: Sequence[str], data: dict[str, Any]) -> None:
    """Into the objects that are there, because others may have them."""
    import logging

    objects = _Objects()
    for name, new in data.items():
        if name not in keep:
            logging.getLogger(module.__name__).warning(
                "the snapshot has %s, which is not kept any more: it is left out", name
            )
            continue
        old = getattr(module, name, None)
        if isinstance(old, (dict, list)):
            objects.put_into(old, new)
        else:
            setattr(module, name, new)


class _Objects:
    """Objects that are there, and stay what they are with what is restored in them. What lies in
    another one does so if there is one of the same type by that key, or at that place of a list."""

    def __init__(self) -> None:
        #: What was put into each, by its id.
        self._put: dict[int, tuple[object, Any]] = {}

    def put_into(self, old: Any, new: Any, depth: int = 0) -> None:
        """Has what is there be equal to what is new."""
        self._put[id(old)] = old, new
        if isinstance(old, dict):
            items = {
                key: self._with(old[key], value, depth) if key in old else value
                for key, value in new.items()
            }
            old.clear()
            old.update(items)
        else:
            count = min(len(old), len(new))
            values = [self._with(old[at], new[at], depth) for at in range(count)]
            old[:] = values + new[count:]

    def _with(self, old: Any, new: Any, depth: int) -> Any:
        kind = type(new)
        if type(old) is not kind or kind not in (dict, list) or depth >= _DEPTH:
            return new
        put = self._put.get(id(old))
        if put is None:
            self.put_into(old, new, depth + 1)
        elif not _same(put[1], new):
            # It stood in two places, which are not equal any more.
            return new
        return old
