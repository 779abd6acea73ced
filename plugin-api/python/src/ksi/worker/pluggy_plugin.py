"""Plugins of pluggy in one worker, with pluggy itself, so that their order is what pluggy makes it.

To the host all of them are one plugin: each hook is an event whose fields are the hook's arguments,
and what the hook gives is the reply. Which they are stands in the project's ``pyproject.toml``::

    [tool.ksi]
    kind = "pluggy"

    [tool.ksi.pluggy]
    project = "eggsample"            # of the markers
    hookspecs = "eggsample.hookspecs"
    plugins = ["plugins", "eggsample.lib"]   # folders, and modules, in the order of registration
    entry_points = "eggsample"       # those of the installed packages
    block = ["lunch"]

    [tool.ksi.pluggy.events]         # eggsample:add_ingredients, if nothing is said
    "kitchen:ingredients" = "add_ingredients"

``manager`` in place of most of it names what gives a ``PluginManager`` that is complete
(``"eggsample.host:get_plugin_manager"``). ``state`` names a module whose state is kept as that of a
plugin that is one module: by ``snapshot()`` and ``restore(data)``, or globals. KSI's hooks,
``ksi_handle_event`` and those of the life of its plugins, are known by their names; ``event_names``
lists the events of ``ksi_handle_event`` that stand in no source. A folder among ``plugins`` is read
with all that is below it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import os
import sys
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pluggy

from .. import _link, codec
from ..events import EventHandler
from ..loader import Declared, LoadedModule, run_file, unique_names
from ..router import get_router
from .event_names import read_event_names
from .failures import Told, message_of
from .given import Given, Recorded, giver, given
from .history import History
from .limits import Open
from .one_thread import OneThread
from .plugin import SHUTDOWN, start_tasks
from .pluggy_state import PluggyState
from .state import State

_log = logging.getLogger(__name__)

#: What KSI calls itself. Its own specifications lack hooks that its plugins have, and its loader
#: accepts any.
_KSI = "ksi"
#: KSI's hook for all events, and those that are the life of its plugins.
_ANY_EVENT = "ksi_handle_event"
_STARTUP, _CONTEXT, _READY, _END = (
    "ksi_startup",
    "ksi_plugin_context",
    "ksi_ready",
    "ksi_shutdown",
)
_LIFE = (_STARTUP, _CONTEXT, _READY, _END)


class HookFailed(Told):
    """An implementation of a hook has failed, or has given what is no JSON."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class PluggyPlugin:
    """A plugin manager with all of its plugins."""

    def __init__(self, opened: Open) -> None:
        said = opened.python.pluggy
        self._folder = opened.path
        self._thread = OneThread("ksi-hooks")
        before = len(_link.declared)
        self._manager = self._thread.run_now(self._made, said, opened.plugin)
        beside = _link.declared[before:]
        self._recorded = Recorded()
        self._history = History(self._manager)
        project = str(said.get("prefix") or self._manager.project_name)
        handlers = list(self._handlers(project, said))
        handlers += [Declared(it.name, it) for it in beside]
        names = unique_names([(it.name, it.name) for it in handlers])
        self.handlers = [
            Declared(name, it.handler) for name, it in zip(names, handlers, strict=True)
        ]
        keep, module = opened.python.keep, types.ModuleType("nothing")
        if said.get("state"):
            module = self._thread.run_now(importlib.import_module, str(said["state"]))
        elif keep:
            raise Told("`keep` names globals of the module that `state` names, and none is")
        state = State(LoadedModule(module), keep, _no_call, [], [], self._thread.run)
        self.state = PluggyState(state, self._history, self._thread, opened.limits.state)

    # What there is

    def _made(self, said: dict[str, Any], name: str) -> pluggy.PluginManager:
        manager: Any
        if said.get("manager"):
            found = _named(str(said["manager"]))
            manager = found if isinstance(found, pluggy.PluginManager) else found()
            if not isinstance(manager, pluggy.PluginManager):
                raise Told(f"{said['manager']} gives a {type(manager).__name__}, no PluginManager")
        else:
            manager = pluggy.PluginManager(str(said.get("project") or name))
        for blocked in _texts(said.get("block")):
            manager.set_blocked(blocked)
        for specs in _texts(said.get("hookspecs")):
            manager.add_hookspecs(_named(specs))
        for plugin in _texts(said.get("plugins")):
            for registered, module in self._modules(plugin):
                if not manager.is_blocked(registered) and not manager.has_plugin(registered):
                    manager.register(module, registered)
        for group in _texts(said.get("entry_points")):
            manager.load_setuptools_entrypoints(group)
        if said.get("hookspecs"):
            if manager.project_name == _KSI:
                _tell_unspecified(manager)
            else:
                manager.check_pending()
        return manager  # type: ignore[no-any-return]

    def _modules(self, plugin: str) -> Iterator[tuple[str, Any]]:
        folder = os.path.join(self._folder, plugin)
        if not os.path.isdir(folder):
            yield plugin, _named(plugin)
            return
        for at, folders, files in os.walk(folder):
            folders[:] = sorted(it for it in folders if not it.startswith(("_", ".")))
            for file in sorted(files):
                stem, extension = os.path.splitext(file)
                if extension != ".py" or stem.startswith(("_", ".")):
                    continue
                path = os.path.join(at, file)
                registered = os.path.relpath(path[: -len(extension)], folder).replace(os.sep, ".")
                name = f"{os.path.basename(folder)}.{registered}"
                # One that another has imported by this name is one module with it.
                module = sys.modules.get(name)
                if module is None or getattr(module, "__file__", None) != path:
                    module = run_file(path, name, path)
                yield registered, module

    def _handlers(self, project: str, said: dict[str, Any]) -> Iterator[Declared]:
        table: dict[str, list[str]] = {}
        for event, hook in dict(said.get("events", {})).items():
            table.setdefault(str(hook), []).append(str(event))
        hooks = {name: hook for name, hook in vars(self._manager.hook).items() if name[0] != "_"}
        unknown = sorted(set(table) - set(hooks))
        if unknown:
            raise Told(f"no plugin and no specification has the hook {unknown[0]}")
        for name, hook in hooks.items():
            if name in _LIFE:
                continue
            if name == _ANY_EVENT:
                events = self._event_names(hook, _texts(said.get("event_names")))
            else:
                events = table.get(name) or [f"{project}:{name}"]
            if events:
                handler = EventHandler(self._called(hook), events[0])
                handler.events = events
                handler.schema = _schema(hook)
                yield Declared(name, handler)
        if hasattr(self._manager.hook, _END):
            yield Declared(_END, EventHandler(self._ended, SHUTDOWN))

    def _event_names(self, hook: Any, configured: list[str]) -> list[str]:
        names = set(configured)
        for implementation in hook.get_hookimpls():
            found = read_event_names(implementation.function)
            names |= found.names
            if found.lacks and not configured:
                _log.warning(
                    "plugin %s takes events by %s, and %s; name them in event_names of "
                    "[tool.ksi.pluggy]",
                    implementation.plugin_name,
                    hook.name,
                    found.lacks,
                )
        return sorted(names)

    # What is called

    def _called(self, hook: Any) -> Callable[..., Any]:
        spec = getattr(hook, "spec", None)
        takes = set(spec.argnames) if spec is not None else _arguments(hook)
        any_event, name = hook.name == _ANY_EVENT, hook.name

        async def call(data: Any, context: Any) -> Any:
            if any_event:
                event = context["event"]
                arguments = {"event_name": event, "data": data, "context": dict(context)}
            elif isinstance(data, dict):
                arguments = {str(key): value for key, value in data.items()}
                if "context" in takes:
                    arguments.setdefault("context", dict(context))
            else:
                kind = type(data).__name__
                text = f"the arguments of {name} are fields of an object, and this is a {kind}"
                raise HookFailed("arguments", text)
            result = await self._call(hook, arguments)
            return _one_of_ksi(result) if any_event else result

        call.__name__ = call.__qualname__ = name
        call.__doc__ = inspect.getdoc(spec.function) if spec is not None else None
        return call

    async def _call(self, hook: Any, arguments: dict[str, Any]) -> Any:
        """Calls a hook as pluggy does, and awaits what is to be awaited of its results."""
        by: Given = []
        given.set(by)
        try:
            result = await self._thread.run(self._called_now, hook, arguments)
        finally:
            given.set(None)
        if isinstance(result, list):
            of_one = _is_first_result(hook)
            ends = [(it, await self._awaited(hook, it, by)) for it in result]
            # A coroutine that gives none is to a list of results what a function is that does.
            result = [end for it, end in ends if of_one or end is not None or it is None]
        else:
            result = await self._awaited(hook, result, by)
        _check_json(hook, result, by)
        return result

    def _called_now(self, hook: Any, arguments: dict[str, Any]) -> Any:
        try:
            self._recorded.record(hook)
            if hook.is_historic():
                return self._history.call(hook, arguments)
            return hook(**arguments)
        except Exception as error:
            raise _failed(hook, error, _raised_by(hook, error)) from error

    async def _awaited(self, hook: Any, result: Any, by: Given) -> Any:
        if not inspect.isawaitable(result):
            return result
        plugin = giver(result, by)
        try:
            end = await result
        except Exception as error:
            raise _failed(hook, error, plugin) from error
        by.append((plugin, end))
        return end

    # Life

    async def create(self, config: Any) -> None:
        hooks, router = self._manager.hook, get_router()
        settings = config if isinstance(config, dict) else {}
        if hasattr(hooks, _STARTUP):
            await self._call_life(_STARTUP, {"config": settings})
        if hasattr(hooks, _CONTEXT):
            context = {"config": settings, "emit_event": router.emit, "event_router": router}
            await self._call_life(_CONTEXT, {"context": context})

    async def goes_live(self) -> None:
        hook = getattr(self._manager.hook, _READY, None)
        # At once, so that no hook runs before it that is called from here on.
        ends, results = await self._thread.run(self._begun, hook)
        for end in ends:
            await end
        for result in results:
            try:
                await start_tasks(await result if inspect.isawaitable(result) else result)
            except Exception as error:
                _log.error("%s", _failed(hook, error, _raised_by(hook, error)))

    def _begun(self, hook: Any) -> tuple[list[Awaitable[None]], list[Any]]:
        ends = self._history.tell_new_ones()
        try:
            results = hook() if hook is not None else []
        except Exception as error:
            _log.error("%s", _failed(hook, error, _raised_by(hook, error)))
            results = []
        return ends, results if isinstance(results, list) else [results]

    async def _call_life(self, name: str, arguments: dict[str, Any]) -> list[Any]:
        hook = getattr(self._manager.hook, name)
        try:
            result = await self._thread.run(functools.partial(hook, **arguments))
            results = result if isinstance(result, list) else [result]
            return [await it if inspect.isawaitable(it) else it for it in results]
        except Exception as error:
            raise _failed(hook, error, _raised_by(hook, error)) from error

    async def _ended(self, data: Any) -> None:
        await self._call_life(_END, {})

    async def ends(self) -> None:
        """Its end is an event that the host calls."""

    def declared_late(self, handler: EventHandler) -> bool:
        """What a plugin subscribes to beside its hooks."""
        return True


def _tell_unspecified(manager: pluggy.PluginManager) -> None:
    """Tells of hooks that may be wrong names, where those are accepted."""
    for name, hook in vars(manager.hook).items():
        if name[0] == "_" or name in _LIFE or getattr(hook, "spec", None) is not None:
            continue
        for it in hook.get_hookimpls():
            if not it.optionalhook:
                text = "plugin %s has the hook %s, which no specification knows: it is an event"
                _log.warning(text, it.plugin_name, name)


def _failed(hook: Any, error: Exception, plugin: str) -> HookFailed:
    if isinstance(error, HookFailed):
        return error
    whose = f"plugin {plugin}, hook {hook.name}" if plugin else f"hook {hook.name}"
    return HookFailed(type(error).__name__, f"{whose}: {message_of(error)}")


def _raised_by(hook: Any, error: BaseException) -> str:
    """The plugin whose implementation an error comes from: the innermost that it has passed."""
    codes = {}
    for implementation in hook.get_hookimpls():
        function = inspect.unwrap(implementation.function)
        codes[getattr(function, "__code__", None)] = implementation.plugin_name
    found, traceback = "", error.__traceback__
    while traceback is not None:
        found = codes.get(traceback.tb_frame.f_code, found)
        traceback = traceback.tb_next
    return found


def _check_json(hook: Any, result: Any, by: Given) -> None:
    """Whether what a hook gives has JSON; else, which plugin has given that."""
    try:
        codec.dumps(result)
        return
    except codec.NotJson as error:
        fault = str(error)
    for value in result if isinstance(result, list) else [result]:
        place = codec.find_fault(value)
        if place is not None:
            plugin = giver(value, by)
            whose = f"plugin {plugin}" if plugin else "a plugin"
            raise HookFailed(
                "not_json", f"{whose}, hook {hook.name}: its result is no JSON: {place}"
            )
    raise HookFailed("not_json", f"hook {hook.name}: {fault}")


def _one_of_ksi(result: Any) -> Any:
    """One answer goes as it is, and several go together."""
    results = [it for it in (result if isinstance(result, list) else [result]) if it is not None]
    return {"responses": results} if len(results) > 1 else (results[0] if results else None)


def _is_first_result(hook: Any) -> bool:
    spec = getattr(hook, "spec", None)
    return spec is not None and bool(spec.opts.get("firstresult"))


def _arguments(hook: Any) -> set[str]:
    """What the implementations of a hook take that has no specification."""
    return {name for it in hook.get_hookimpls() for name in it.argnames}


def _schema(hook: Any) -> dict[str, Any] | None:
    spec = getattr(hook, "spec", None)
    if spec is None or hook.name == _ANY_EVENT:
        return None
    names = [name for name in spec.argnames if name != "context"]
    return {"type": "object", "properties": {name: {} for name in names}, "required": names}


def _named(name: str) -> Any:
    """What ``module`` or ``module:object`` names."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in filter(None, path.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Told(f"{module} has no {path}, which is named as {name}") from None
    return found


def _texts(said: Any) -> list[str]:
    if said is None:
        return []
    return [said] if isinstance(said, str) else [str(it) for it in said]


async def _no_call(handler: EventHandler, data: Any) -> None:
    """No handler of a plugin of pluggy is part of its state."""
