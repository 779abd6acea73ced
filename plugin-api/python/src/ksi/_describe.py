"""What a plugin in Python is, from its source alone: nothing of it runs, and nothing is imported.

One file and a program by itself, so that a host can give its text to an interpreter
(``python -I -B -c TEXT``) before anything of the package is where it can be imported. It reads
requests, a JSON object a line: ``path`` (the file, or a folder with ``pyproject.toml``), ``file``
(where that was copied from), ``name`` and, if that was read, ``said``: what ``pyproject.toml`` or
the file's block of PEP 723 says, as JSON. Each is answered with a line: ``manifest``, as the host
reads one, or ``error``, with ``file``, ``line``, ``column``, ``text`` and ``message``.

What only running tells is not guessed: ``handlers_complete`` is false then, ``unread`` says why,
and what the plugin says of itself when it is open counts.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Where the names of modules come from that are looked for, and what KSI calls these places.
_EVENTS = (
    "ksi",
    "ksi.events",
    "ksi.router",
    "ksi.service",
    "ksi_common.service_lifecycle",
    "ksi_daemon",
    "ksi_daemon.event_system",
)
#: Decorators that make handlers: the event, or "" for that of the first argument.
_DECORATORS = {
    "event_handler": "",
    "service_startup": "system:startup",
    "service_ready_handler": "system:ready",
    "service_shutdown": "system:shutdown",
    "shutdown_handler": "system:shutdown",
}
_EMITS = ("emit_event", "emit_event_first", "send_event", "emit", "emit_first", "send")
_ROUTERS = ("router", "_router", "event_router", "self.router", "get_router()")
_EMITTERS = ("event_emitter", "_event_emitter", "self.event_emitter", "self.emit_event")
_PRIORITIES = {"HIGHEST": 0, "HIGH": 10, "NORMAL": 50, "LOW": 90, "LOWEST": 100}
#: Events that the worker tells of, and the host does not.
_LIFE = ("system:startup", "system:context", "system:ready")
#: What declares handlers of checkpoints when it is called.
_PARTICIPANTS = (
    "CheckpointParticipant",
    "checkpoint_participant",
    "register_checkpoint_handlers",
)
_COLLECT, _RESTORE = "checkpoint:collect", "checkpoint:restore"
_SHUTDOWN = {"system:shutdown": "module:shutdown"}
#: The global that is kept if nobody says what is, and the functions that go before it.
_KEPT = "_state"
_FUNCTIONS = ("snapshot", "restore")
_CONTAINERS = ("dict", "list", "defaultdict", "OrderedDict", "Counter")
#: Inner decorators that leave a function what it is.
_HARMLESS = ("wraps", "override", "final", "typing.override", "typing.final", "functools.wraps")
_SEGMENT = re.compile(r"[A-Za-z0-9_.-]+")
_SCRIPT = re.compile(r"(?m)^# /// script\s*$\n((?:^#(?: .*)?$\n)+?)^# ///\s*$")
_DEPTH = 8
#: Schemas of `ksi.types`, whose source need not be there.
_KSI_TYPES: dict[str, Any] = {
    "CompletionRequest": {
        "type": "object",
        "properties": {
            "prompt": {"type": "string"},
            "model": {"type": "string"},
            "temperature": {"type": "number"},
            "max_tokens": {"type": "integer"},
            "stream": {"type": "boolean"},
            "messages": {"type": "array", "items": {"type": "object"}},
            "session_id": {"type": "string"},
        },
        "required": ["prompt"],
        "description": "``completion:request``: asks for a completion of a prompt.",
    },
    "CompletionResponse": {
        "type": "object",
        "properties": {
            "result": {"type": "string"},
            "model": {"type": "string"},
            "usage": {"type": "object", "additionalProperties": {"type": "integer"}},
            "session_id": {"type": "string"},
        },
        "required": [],
        "description": "The reply to ``completion:request``.",
    },
    "CompletionResult": {
        "type": "object",
        "properties": {
            "result": {"type": "string"},
            "model": {"type": "string"},
            "usage": {"type": "object", "additionalProperties": {"type": "integer"}},
            "session_id": {"type": "string"},
        },
        "required": [],
        "description": "``completion:result``: what became of a request.",
    },
    "StateQuery": {
        "type": "object",
        "properties": {"namespace": {"type": "string"}, "key": {"type": "string"}},
        "required": ["namespace"],
        "description": "``state:query``: asks for one value, or for all of a namespace.",
    },
    "StateUpdate": {
        "type": "object",
        "properties": {
            "namespace": {"type": "string"},
            "key": {"type": "string"},
            "operation": {"enum": ["set", "get", "delete"]},
            "value": {},
        },
        "required": ["namespace", "key", "operation"],
        "description": "``state:update``: sets, gets or deletes one value.",
    },
}


class Mistake(Exception):
    """What keeps a file from being a plugin."""

    def __init__(
        self, message: str, line: int = 0, column: int = 0, text: str = "", file: str = ""
    ) -> None:
        super().__init__(message)
        self.line, self.column, self.text, self.file = line, column, text, file


class Unknown(Exception):
    """What only running tells."""


class Handler(NamedTuple):
    """A function with a decorator."""

    name: str
    qualified: str
    event: str
    priority: int
    timeout: float
    blocking: bool
    function: ast.FunctionDef | ast.AsyncFunctionDef
    schema: ast.expr | None
    source: Source


class Source:
    """One file, and what its names stand for."""

    def __init__(self, text: bytes, shown: str) -> None:
        self.shown = shown
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.tree = ast.parse(text, shown)
        except SyntaxError as error:
            line = (error.text or "").strip()
            place = (error.lineno or 0, error.offset or 0)
            raise Mistake(error.msg, *place, line, shown) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise Mistake(f"it cannot be parsed: {error or type(error).__name__}") from None
        #: What imports and simple assignments have made of a name: the dotted name of what it is.
        self.aliases: dict[str, str] = {}
        self.values: dict[str, ast.expr] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self.stars: list[str] = []
        self.calls: list[ast.Call] = []
        #: Functions within functions.
        self.inner: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        for node, inside in _all(self.tree):
            if isinstance(node, ast.Call):
                self.calls.append(node)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if inside:
                    self.inner.append(node)
            elif isinstance(node, ast.Import):
                for it in node.names:
                    self.aliases[it.asname or it.name.split(".")[0]] = (
                        it.name if it.asname else it.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for it in node.names:
                    if it.name == "*":
                        self.stars.append(node.module or "")
                    else:
                        self.aliases[it.asname or it.name] = f"{node.module}.{it.name}"
        assigned: dict[str, int] = {}
        for statement, _ in _statements(self.tree.body):
            if isinstance(statement, ast.ClassDef):
                self.classes[statement.name] = statement
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions[statement.name] = statement
            for target, value in _assignments(statement):
                assigned[target] = assigned.get(target, 0) + 1
                self.values[target] = value
                if isinstance(value, (ast.Name, ast.Attribute)):
                    self.aliases.setdefault(target, ast.unparse(value))
        #: How often the file binds a name, in whatever way.
        self.bound = _bound(self.tree)
        #: Names whose value is one thing from the beginning to the end.
        self.constants = {name for name, count in assigned.items() if count == 1}

    def resolve(self, node: ast.expr, depth: int = 0) -> str:
        """The dotted name of what an expression is; a guess for what is not imported."""
        if isinstance(node, ast.Call):
            return f"{self.resolve(node.func, depth)}()"
        if isinstance(node, ast.Attribute):
            return f"{self.resolve(node.value, depth)}.{node.attr}"
        if not isinstance(node, ast.Name):
            return ""
        found = self.aliases.get(node.id)
        if found is None or found == node.id or depth > _DEPTH:
            return node.id
        head, dot, rest = found.partition(".")
        if head in self.aliases and self.aliases[head] != head and head != node.id:
            return self.resolve(ast.Name(head), depth + 1) + dot + rest
        return found

    def is_ours(self, node: ast.expr, names: Any) -> str:
        """Which of our names an expression stands for; empty for none."""
        module, _, name = self.resolve(node).rpartition(".")
        if name not in names:
            return ""
        if module:
            return name if module in _EVENTS else ""
        local = name in self.functions or name in self.classes
        return name if not local and any(star in _EVENTS for star in self.stars) else ""

    def literal(self, node: ast.expr | None, depth: int = 0) -> Any:
        """The value of an expression that is known without running anything."""
        if depth > _DEPTH or node is None:
            raise Unknown
        if isinstance(node, ast.Name) and node.id in self.constants:
            return self.literal(self.values[node.id], depth + 1)
        if isinstance(node, ast.Attribute) and node.attr in _PRIORITIES:
            if self.resolve(node.value).endswith("EventPriority"):
                return _PRIORITIES[node.attr]
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
            left, right = self.literal(node.left, depth + 1), self.literal(node.right, depth + 1)
            kinds = {type(left), type(right)}
            if isinstance(node.op, ast.Add) and (kinds == {str} or kinds <= {int, float}):
                return left + right
            if kinds <= {int, float}:
                return left - right if isinstance(node.op, ast.Sub) else left * right
        if isinstance(node, ast.JoinedStr):
            return "".join(self._part(part, depth) for part in node.values)
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise Unknown from None

    def _part(self, part: ast.expr, depth: int) -> str:
        if isinstance(part, ast.FormattedValue):
            if part.conversion != -1 or part.format_spec is not None:
                raise Unknown
            return str(self.literal(part.value, depth + 1))
        return str(self.literal(part, depth + 1))


class Plugin:
    """All files of a plugin that are read, in the order in which they would run."""

    def __init__(self, root: str, shown: str) -> None:
        self.root, self.shown = root, shown
        self.handlers: list[Handler] = []
        self.emits: set[str] = set()
        self.unread: list[dict[str, Any]] = []
        self.complete = True
        self._seen: set[str] = set()

    def read(self, path: str, shown: str) -> Source:
        """Reads a file, and those of the folder that it imports, each when it is."""
        self._seen.add(os.path.realpath(path))
        with open(path, "rb") as file:
            source = Source(file.read(), shown)
        for statement, certain in _statements(source.tree.body):
            if self.root and isinstance(statement, (ast.Import, ast.ImportFrom)):
                for found in self._local(statement, path):
                    self.read(found, os.path.join(self.shown, os.path.relpath(found, self.root)))
            self._statement(source, statement, certain, "")
        for call in source.calls:
            self._emit(source, call)
        for function in source.inner:
            self._inner(source, function)
        for known in source.aliases.values():
            if known.rpartition(".")[2] in _PARTICIPANTS:
                self._not_read(source, source.tree, f"what {known} declares")
        return source

    def _local(self, node: ast.Import | ast.ImportFrom, path: str) -> Iterator[str]:
        if isinstance(node, ast.Import):
            names = [it.name for it in node.names]
            folders = [self.root, os.path.join(self.root, "src")]
        else:
            base = node.module or ""
            names = [base] if base else []
            names += [f"{base}.{it.name}".strip(".") for it in node.names]
            folder = os.path.dirname(path)
            for _ in range(node.level - 1):
                folder = os.path.dirname(folder)
            folders = [folder] if node.level else [self.root, os.path.join(self.root, "src")]
        for folder in folders:
            for name in names:
                stem = os.path.join(folder, *name.split("."))
                for found in (f"{stem}.py", os.path.join(stem, "__init__.py")):
                    inside = os.path.realpath(found).startswith(
                        os.path.realpath(self.root) + os.sep
                    )
                    if (
                        inside
                        and os.path.realpath(found) not in self._seen
                        and os.path.isfile(found)
                    ):
                        yield found

    def _statement(self, source: Source, node: ast.stmt, certain: bool, prefix: str) -> None:
        if isinstance(node, ast.ClassDef):
            for inner, inner_certain in _statements(node.body):
                self._statement(source, inner, certain and inner_certain, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # The one that is next to the function runs first.
            below: list[ast.expr] = []
            for decorator in reversed(node.decorator_list):
                if self._decorated(source, node, decorator, prefix, below) and not certain:
                    self._not_read(source, decorator, "a handler that is not declared in each case")
                below.append(decorator)
        else:
            for call in _own_calls(node):
                # event_handler("a:b")(function), and what else declares handlers without a name.
                inner_call = call.func
                if isinstance(inner_call, ast.Call) and source.is_ours(
                    inner_call.func, _DECORATORS
                ):
                    target = call.args[0] if call.args else None
                    function = source.functions.get(getattr(target, "id", ""))
                    if function is None:
                        self._not_read(source, call, "a handler that is no function of the file")
                    elif self._decorated(source, function, inner_call, "", []) and not certain:
                        self._not_read(source, call, "a handler that is not declared in each case")
                elif _last(call.func) in ("register_handler", "subscribe"):
                    self._not_read(source, call, "a subscription that is made while it is imported")

    def _inner(self, source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Handlers within functions are declared when these run, if they ever do."""
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if source.is_ours(called, _DECORATORS):
                self._not_read(source, decorator, "a handler within a function")

    def _decorated(
        self,
        source: Source,
        node: ast.FunctionDef | ast.AsyncFunctionDef,
        decorator: ast.expr,
        prefix: str,
        below: list[ast.expr],
    ) -> bool:
        if not isinstance(decorator, ast.Call):
            return False
        which = source.is_ours(decorator.func, _DECORATORS)
        if not which:
            function = source.functions.get(getattr(decorator.func, "id", ""))
            if function is not None and _declares(source, function):
                self._not_read(source, decorator, "a decorator of the file that declares handlers")
            return False
        for other in below:
            called = other.func if isinstance(other, ast.Call) else other
            if not source.is_ours(called, _DECORATORS) and source.resolve(called) not in _HARMLESS:
                self._not_read(source, other, "what a decorator below makes of the function")
        options = {it.arg: it.value for it in decorator.keywords if it.arg}
        try:
            if any(it.arg is None for it in decorator.keywords):
                raise Unknown
            event = _DECORATORS[which] or source.literal(_argument(decorator, options, 0, "event"))
            at = 0 if which == "event_handler" else 1 << 8
            at = 1 if which in ("event_handler", "shutdown_handler") else at
            given = _argument(decorator, options, at, "priority")
            priority = 50 if given is None else source.literal(given)
            limit = options.get("timeout")
            timeout = source.literal(limit) if limit is not None else None
            timeout = 0.0 if timeout is None else float(timeout)
        except (Unknown, TypeError, ValueError):
            self._not_read(source, decorator, "a decorator that only running tells")
            return False
        fault = pattern_fault(event)
        if fault:
            raise Mistake(
                f"{str(event)[:256]!r} is no event name or pattern: {fault}",
                decorator.lineno,
                decorator.col_offset + 1,
                ast.unparse(decorator),
                source.shown,
            )
        # Those that wrap a function in one that is async.
        blocking = isinstance(node, ast.FunctionDef) and not which.startswith("service_")
        schema = options.get("schema")
        self.handlers.append(
            Handler(
                node.name,
                prefix + node.name,
                event,
                int(priority),
                timeout,
                blocking,
                node,
                schema,
                source,
            )
        )
        return True

    def _emit(self, source: Source, call: ast.Call) -> None:
        name = _last(call.func)
        on_router = isinstance(call.func, ast.Attribute) and (
            source.resolve(call.func.value).rsplit("event_system.")[-1] in _ROUTERS
            or source.resolve(call.func.value).endswith("get_router()")
        )
        if not (source.is_ours(call.func, _EMITS) or (on_router and name in _EMITS)):
            if source.resolve(call.func) not in _EMITTERS:
                return
        try:
            event = source.literal(call.args[0] if call.args else None)
        except Unknown:
            self.unread.append(_place(source, call, "an event whose name is computed"))
            return
        if isinstance(event, str) and not pattern_fault(event) and "*" not in event:
            self.emits.add(event)

    def _not_read(self, source: Source, node: ast.AST, what: str) -> None:
        self.complete = False
        self.unread.append(_place(source, node, what))


def describe(path: str, file: str, name: str, said: dict[str, Any] | None = None) -> dict[str, Any]:
    """The manifest of a file, or of a folder. ``said`` is what its ``pyproject.toml`` or its block
    says, if that was read.

    Raises:
        Mistake: it is none.
    """
    if os.path.isdir(path):
        project_file = os.path.join(path, "pyproject.toml")
        if said is None:
            with open(project_file, encoding="utf-8") as toml:
                said = read_toml(toml.read())
        table = Table(said, "its pyproject.toml")
        project = table.table("project")
        settings = table.table("tool").table("ksi")
        plugin = Plugin(path, file)
        if settings.text("kind") == "pluggy":
            # Its hooks are found when its plugins are there.
            entry, main, plugin.complete = "", Source(b"", file), False
        else:
            entry = _entry(path, settings.text("module"), project.text("name") or name)
            main = plugin.read(os.path.join(path, entry), os.path.join(file, entry))
    else:
        entry, plugin = "", Plugin("", file)
        main = plugin.read(path, file)
        project = Table(_block(path) if said is None else said, "the head of the file")
        settings = project.table("tool").table("ksi")
    python = project.text("requires-python")
    if not satisfies(sys.version_info[:3], python):
        found = ".".join(map(str, sys.version_info[:3]))
        raise Mistake(f"it needs Python {python}, and {sys.executable} is {found}")
    life = {_COLLECT, _RESTORE, *_LIFE}
    names = unique_names([(it.name, it.qualified) for it in plugin.handlers])
    events = {it.event for it in plugin.handlers}
    named = list(zip(names, plugin.handlers))  # noqa: B905 (it stands alone on Python 3.9 too)
    shown = [(it, handler) for it, handler in named if handler.event not in life]
    keep = settings.texts("keep")
    try:
        keep, state = _state(main, keep, {_COLLECT, _RESTORE} <= events)
    except Unknown as unknown:
        state = None
        plugin.unread.append(_place(main, main.tree, str(unknown)))
    schemas = {it: _data_schema(handler) for it, handler in shown}
    manifest = {
        "format": 1,
        "name": settings.text("name") or name,
        "version": project.text("version") or _version(main, path, entry),
        "built": "python",
        "handlers": [
            {
                "name": it,
                "subscriptions": [_SHUTDOWN.get(handler.event, handler.event)],
                "priority": min(max(50 - handler.priority, -(1 << 31)), (1 << 31) - 1),
                "timeout_ms": max(1, round(handler.timeout * 1000)) if handler.timeout else 0,
                "blocking": handler.blocking,
            }
            for it, handler in shown
        ],
        "emits": sorted(plugin.emits),
        "requires": _required(settings),
        "state": state,
        "exclusive": settings.flag("exclusive", False),
        "trial": settings.flag("trial", True),
        "python": python,
        "dependencies": project.texts("dependencies") or [],
        "keep": keep or [],
        "keep_is_named": settings.has("keep"),
        "handlers_complete": plugin.complete,
        "schemas": {it: schema for it, schema in schemas.items() if schema},
        "summaries": {it: _summary(handler.function) for it, handler in shown},
        "unread": plugin.unread,
        "entry": entry,
        "kind": settings.text("kind") or "module",
        "pluggy": _pluggy(settings),
    }
    return manifest


def _block(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8", errors="replace") as text:
        script = _SCRIPT.search(text.read().replace("\r\n", "\n"))
    block = "\n".join(it[2:] for it in script[1].splitlines()) if script else ""
    return read_toml(block) if block else {}


class Table:
    """A table of TOML. What is taken of it is of the kind that belongs there."""

    def __init__(self, values: dict[str, Any], where: str, path: str = "") -> None:
        self.values, self._where, self._path = values, where, path

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        return str(self._get(key, "", "a text", str))

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._get(key, default, "true or false", bool))

    def texts(self, key: str) -> list[str] | None:
        """``None`` if nothing is said."""
        found = self._get(key, None, "a list of texts", list)
        if found is not None and not all(isinstance(it, str) for it in found):
            self._wrong(key, "a list of texts")
        return found  # type: ignore[no-any-return]

    def text_or_texts(self, key: str) -> list[str] | None:
        found = self.values.get(key)
        return [found] if isinstance(found, str) else self.texts(key)

    def table(self, key: str) -> Table:
        return Table(self._get(key, {}, "a table", dict), self._where, f"{self._path}{key}.")

    def _get(self, key: str, default: Any, kind: str, of: type) -> Any:
        found = self.values.get(key)
        if found is None:
            return default
        if not isinstance(found, of):
            self._wrong(key, kind)
        return found

    def _wrong(self, key: str, kind: str) -> None:
        found = f"{self.values[key]!r:.80}"
        raise Mistake(f"{self._where} has {self._path}{key} = {found}, where {kind} belongs")


def _required(settings: Table) -> list[str]:
    names = settings.texts("requires") or []
    for name in names:
        fault = "it is a pattern, and one event has one name" if "*" in name else ""
        fault = fault or pattern_fault(name)
        if fault:
            raise Mistake(f"tool.ksi.requires has {name!r}, which is no event name: {fault}")
    return names


def _pluggy(settings: Table) -> dict[str, Any]:
    """What is said of plugins of pluggy, as the worker reads it."""
    said = settings.table("pluggy")
    for key in ("project", "prefix", "manager", "state"):
        said.text(key)
    for key in ("hookspecs", "plugins", "entry_points", "block", "event_names"):
        said.text_or_texts(key)
    events = said.table("events")
    for event in events.values:
        events.text(event)
    return said.values


def _entry(path: str, said: str, name: str) -> str:
    names = [said] if said else [name, name.replace("-", "_"), "plugin", "main"]
    for it in names:
        stem = it if it.endswith(".py") else it.replace(".", os.sep)
        for folder in ("", "src"):
            for found in (stem, f"{stem}.py", os.path.join(stem, "__init__.py")):
                entry = os.path.join(folder, found)
                if found.endswith(".py") and os.path.isfile(os.path.join(path, entry)):
                    return entry
    wanted = (
        f"module = {said!r}" if said else "no `module`, and there is none called as the project"
    )
    raise Mistake(f"[tool.ksi] in its pyproject.toml has {wanted}: which file is the plugin?")


def _state(
    source: Source, named: list[str] | None, checkpoint: bool
) -> tuple[list[str] | None, dict[str, list[int]] | None]:
    """The globals that are kept, and the versions of the state, if it has one.

    Raises:
        Unknown: only running tells. The worker looks at what the names stand for then.
    """
    version = _state_version(source)
    functions = [name in source.functions for name in _FUNCTIONS]
    if all(functions):
        takes_version = len(source.functions["restore"].args.args) >= 2
        older = list(range(version - 1, 0, -1)) if takes_version else []
        return [], {"writes": [version], "restores": [version, *older]}
    if any(map(_is_foreign, source.stars)) or all(name in source.bound for name in _FUNCTIONS):
        raise Unknown("whether it has snapshot() and restore(data)")
    if checkpoint:
        keep = []
    elif named is not None:
        keep = named
    elif _is_kept(source):
        keep = [_KEPT]
    else:
        return [], None
    state = {"writes": [version], "restores": [version]} if keep or checkpoint else None
    return keep, state


def _is_kept(source: Source) -> bool:
    """Whether there is a global that is kept though nobody has named it."""
    if _KEPT not in source.bound:
        return False
    value = source.values.get(_KEPT)
    if value is None or source.bound[_KEPT] > 1:
        raise Unknown(f"whether {_KEPT} is kept")
    if isinstance(value, (ast.Dict, ast.List, ast.DictComp, ast.ListComp)):
        return True
    if isinstance(value, ast.Call) and _last(value.func) in _CONTAINERS:
        return True
    if isinstance(value, ast.Constant):
        return False
    raise Unknown(f"whether {_KEPT} is kept")


def _is_foreign(module: str) -> bool:
    """Whether a module may have anything: it is neither the package's nor the interpreter's."""
    top = module.split(".")[0]
    return top not in ("ksi", "ksi_daemon", *getattr(sys, "stdlib_module_names", ()))


def _state_version(source: Source) -> int:
    if "STATE_VERSION" not in source.bound:
        return 1
    try:
        version = source.literal(ast.Name("STATE_VERSION"))
    except Unknown:
        raise Unknown("which version its state has") from None
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 1 << 32:
        raise Mistake(f"STATE_VERSION is {version!r}, and a version is a number from 1 on")
    return version


def _version(source: Source, path: str, entry: str) -> str:
    try:
        return str(source.literal(source.values.get("__version__")))
    except Unknown:
        if os.path.isdir(path) and not entry:
            return "0"
        with open(os.path.join(path, entry) if entry else path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()[:12]


# Schemas


def _data_schema(handler: Handler) -> dict[str, Any] | None:
    source = handler.source
    if handler.schema is not None:
        try:
            said = source.literal(handler.schema)
            return said if isinstance(said, dict) else None
        except Unknown:
            return schema_of(source, handler.schema)
    arguments = [*handler.function.args.posonlyargs, *handler.function.args.args]
    if arguments and arguments[0].arg in ("self", "cls"):
        arguments = arguments[1:]
    annotation = arguments[0].annotation if arguments else None
    return schema_of(source, annotation) if annotation is not None else None


_PLAIN = {
    "str": "string",
    "bytes": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "dict": "object",
    "Dict": "object",
    "Mapping": "object",
    "MutableMapping": "object",
    "list": "array",
    "List": "array",
    "Sequence": "array",
    "Iterable": "array",
    "set": "array",
    "Set": "array",
    "frozenset": "array",
    "tuple": "array",
    "Tuple": "array",
    "None": "null",
    "NoneType": "null",
}


def schema_of(source: Source, node: ast.expr, depth: int = 0) -> dict[str, Any] | None:
    """The JSON Schema of an annotation; ``None`` for what says nothing."""
    if depth > _DEPTH:
        return None
    if isinstance(node, ast.Constant):
        if node.value is None:
            return {"type": "null"}
        try:
            text = ast.parse(str(node.value), mode="eval").body
        except SyntaxError:
            return None
        return schema_of(source, text, depth + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([schema_of(source, it, depth + 1) for it in (node.left, node.right)])
    if isinstance(node, ast.Subscript):
        return _subscript(source, node, depth)
    name = _last(node)
    if isinstance(node, ast.Name):
        if node.id in source.classes:
            return _class(source, source.classes[node.id], depth)
        value = source.values.get(node.id)
        if value is not None:
            if isinstance(value, ast.Call) and _last(value.func) == "TypedDict":
                return _functional(source, value, depth)
            return schema_of(source, value, depth + 1)
    module, _, ours = source.resolve(node).rpartition(".")
    if module == "ksi.types" and ours in _KSI_TYPES:
        return json.loads(json.dumps(_KSI_TYPES[ours]))  # type: ignore[no-any-return]
    return {"type": _PLAIN[name]} if name in _PLAIN else None


def _subscript(source: Source, node: ast.Subscript, depth: int) -> dict[str, Any] | None:
    name = _last(node.value)
    inner = node.slice
    parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        try:
            return {"enum": [source.literal(it) for it in parts]}
        except Unknown:
            return None
    if name in ("Required", "NotRequired", "ReadOnly", "Annotated", "Final"):
        return schema_of(source, parts[0], depth)
    if name == "Optional":
        return _union([schema_of(source, parts[0], depth + 1), {"type": "null"}])
    if name == "Union":
        return _union([schema_of(source, it, depth + 1) for it in parts])
    kind = _PLAIN.get(name)
    if kind == "object":
        values = schema_of(source, parts[-1], depth + 1) if len(parts) == 2 else None
        return {"type": kind, "additionalProperties": values} if values else {"type": kind}
    if kind == "array" and name not in ("tuple", "Tuple"):
        items = schema_of(source, parts[0], depth + 1)
        return {"type": kind, "items": items} if items else {"type": kind}
    return {"type": kind} if kind else None


def _union(members: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    flat: list[dict[str, Any]] = []
    for member in members:
        if member is None:
            return None
        flat += member["anyOf"] if set(member) == {"anyOf"} else [member]
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def _class(source: Source, node: ast.ClassDef, depth: int) -> dict[str, Any] | None:
    bases = [_last(it) for it in node.bases]
    if any(it in ("Enum", "IntEnum", "StrEnum") for it in bases):
        try:
            return {"enum": [source.literal(v) for s in node.body for _, v in _assignments(s)]}
        except Unknown:
            return None
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    if not _typed_dict(source, node, schema, depth):
        return None
    text = ast.get_docstring(node)
    if text:
        schema["description"] = text.split("\n\n")[0]
    return schema


def _typed_dict(source: Source, node: ast.ClassDef, schema: dict[str, Any], depth: int) -> bool:
    is_one = False
    for base in node.bases:
        above = source.classes.get(getattr(base, "id", ""))
        if _last(base) == "TypedDict":
            is_one = True
        elif above is not None and above is not node and depth < _DEPTH:
            is_one = _typed_dict(source, above, schema, depth + 1) or is_one
        else:
            inherited = schema_of(source, base, depth + 1) if isinstance(base, ast.Name) else None
            if inherited is not None and "properties" in inherited:
                is_one = True
                schema["properties"].update(inherited["properties"])
                schema["required"] += inherited["required"]
    if not is_one:
        return False
    total = not any(
        it.arg == "total" and isinstance(it.value, ast.Constant) and it.value.value is False
        for it in node.keywords
    )
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            _key(source, schema, statement.target.id, statement.annotation, total, depth)
    return True


def _functional(source: Source, call: ast.Call, depth: int) -> dict[str, Any] | None:
    if len(call.args) < 2 or not isinstance(call.args[1], ast.Dict):
        return None
    total = not any(
        it.arg == "total" and isinstance(it.value, ast.Constant) and it.value.value is False
        for it in call.keywords
    )
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    for key, annotation in zip(call.args[1].keys, call.args[1].values):  # noqa: B905
        if isinstance(key, ast.Constant):
            _key(source, schema, str(key.value), annotation, total, depth)
    return schema


def _key(
    source: Source, schema: dict[str, Any], name: str, node: ast.expr, total: bool, depth: int
) -> None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value, mode="eval").body
        except SyntaxError:
            pass
    required, inner = total, node
    while isinstance(inner, ast.Subscript):
        mark = _last(inner.value)
        required = {"Required": True, "NotRequired": False}.get(mark, required)
        parts = inner.slice
        inner = parts.elts[0] if isinstance(parts, ast.Tuple) and parts.elts else parts
        if mark not in ("Required", "NotRequired", "ReadOnly", "Annotated"):
            break
    schema["properties"][name] = schema_of(source, node, depth + 1) or {}
    if name in schema["required"]:
        schema["required"].remove(name)
    if required:
        schema["required"].append(name)


# Names and small things


def pattern_fault(text: Any) -> str:
    """What is wrong with an event's name or pattern, as the package has it when it runs."""
    if not isinstance(text, str):
        return f"it is a {type(text).__name__} and no text"
    if len(text.encode("utf-8", "replace")) > 256:
        return "it is longer than 256 bytes"
    if text == "*":
        return ""
    segments = text.split(":")
    for segment in segments:
        if segment in ("*", "**"):
            continue
        if not segment:
            return "it has an empty segment" if text else "it is empty"
        if "*" in segment:
            return f"in {segment!r} the '*' must be the whole segment"
        if not _SEGMENT.fullmatch(segment):
            stranger = next(c for c in segment if not _SEGMENT.fullmatch(c))
            return (
                f"{stranger!r} is not allowed in it (letters, digits, '_', '-' and '.' are, and "
                "':' between its parts)"
            )
    if len(segments) == 1 and "*" not in text:
        return 'it needs a namespace, as in "greet:request"'
    return ""


def unique_names(functions: list[tuple[str, str]]) -> list[str]:
    """Names of handlers, each once, as ``ksi.loader`` has them."""
    plain = [name for name, _ in functions]
    taken: set[str] = set()
    names = []
    for name, qualified in functions:
        unique = first = name if plain.count(name) == 1 else qualified
        number = 1
        while unique in taken:
            number += 1
            unique = f"{first}_{number}"
        taken.add(unique)
        names.append(unique)
    return names


def _summary(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def _declares(source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    calls = (it for it in ast.walk(node) if isinstance(it, ast.Call))
    return any(source.is_ours(it.func, _DECORATORS) for it in calls)


def _place(source: Source, node: ast.AST, what: str) -> dict[str, Any]:
    # A path need not be a text.
    file = os.fsencode(source.shown).decode("utf-8", "replace")
    return {"file": file, "line": getattr(node, "lineno", 1), "what": what}


def _argument(call: ast.Call, options: dict[str, ast.expr], at: int, name: str) -> ast.expr | None:
    found = call.args[at] if at < len(call.args) else options.get(name)
    if isinstance(found, ast.Starred):
        raise Unknown
    return found


def _last(node: ast.expr) -> str:
    """The last part of a dotted name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _assignments(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        if isinstance(node.target, ast.Name):
            yield node.target.id, node.value


def _statements(body: list[ast.stmt], certain: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """Those that an import runs, in their order, and whether it does in each case."""
    for node in body:
        if isinstance(node, ast.If):
            test = ast.unparse(node.test)
            if "__main__" in test or test.endswith("TYPE_CHECKING"):
                yield from _statements(node.orelse, certain)
                continue
            yield from _statements(node.body, False)
            yield from _statements(node.orelse, False)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            yield from _statements(node.body, certain)
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            yield from _statements([*node.body, *node.orelse], False)
        elif isinstance(node, ast.Try) or type(node).__name__ == "TryStar":
            for part in ("body", "orelse"):
                yield from _statements(getattr(node, part), False)
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body, False)
            yield from _statements(getattr(node, "finalbody", []), certain)
        elif type(node).__name__ == "Match":
            for case in getattr(node, "cases", ()):
                yield from _statements(case.body, False)
        else:
            yield node, certain


def _bound(tree: ast.Module) -> dict[str, int]:
    """How often names of the module are bound, in whatever way."""
    found: dict[str, int] = {}
    left: list[ast.AST] = list(tree.body)
    while left:
        node = left.pop()
        names: list[str] = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [it.asname or it.name.split(".")[0] for it in node.names]
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names = [node.id]
        elif not isinstance(node, ast.Lambda):
            left += ast.iter_child_nodes(node)
        for name in names:
            found[name] = found.get(name, 0) + 1
    return found


def _all(tree: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes in the order of the text, and whether each lies in a function."""
    left: list[tuple[Any, bool]] = [(tree, False)]
    while left:
        node, inside = left.pop()
        yield node, inside
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for name in reversed(node._fields):
            value = getattr(node, name, None)
            if isinstance(value, list):
                left += [(it, inside) for it in reversed(value) if isinstance(it, ast.AST)]
            elif isinstance(value, ast.AST):
                left.append((value, inside))


def _own_calls(node: ast.stmt) -> Iterator[ast.Call]:
    """Calls of a statement, without those of functions that it defines."""
    left: list[ast.AST] = [node]
    while left:
        found = left.pop()
        if isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(found, ast.Call):
            yield found
        left += ast.iter_child_nodes(found)


def satisfies(version: tuple[int, ...], wanted: str) -> bool:
    """Whether an interpreter is one that ``requires-python`` asks for. What it cannot read it
    lets pass."""
    for clause in filter(None, (it.strip() for it in wanted.split(","))):
        match = re.fullmatch(r"(===?|~=|!=|<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)*)(\.\*)?", clause)
        if match is None:
            continue
        operator, digits, star = match.groups()
        other = tuple(map(int, digits.split(".")))
        length = max(len(version), len(other))
        ours = version + (0,) * (length - len(version))
        theirs = other + (0,) * (length - len(other))
        same = ours[: len(other)] == other if star else ours == theirs
        fits = {
            "==": same,
            "===": same,
            "!=": not same,
            "<": ours < theirs,
            ">": ours > theirs,
            "<=": ours <= theirs,
            ">=": ours >= theirs,
            "~=": ours >= theirs and ours[: len(other) - 1] == other[:-1],
        }
        if not fits[operator]:
            return False
    return True


def read_toml(text: str) -> dict[str, Any]:
    """Reads TOML for whoever has not read it yet, as a host has. CPython 3.10 has no reader."""
    if sys.version_info >= (3, 11):
        import tomllib

        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise Mistake(f"what it needs is written in no TOML: {error}") from None
    raise Mistake("what it says of itself is TOML, which Python reads from 3.11 on")


def answer(request: Any) -> dict[str, Any]:
    """The answer to one request."""
    try:
        path = str(request["path"])
        file, name = str(request.get("file") or path), request.get("name")
        stem = os.path.splitext(os.path.basename(file))[0]
        said = (request["said"] or {}) if "said" in request else None
        return {"manifest": describe(path, file, str(name or stem), said)}
    except Mistake as mistake:
        said = {"line": mistake.line, "column": mistake.column, "text": mistake.text[:500]}
        # A path need not be a text.
        at = os.fsencode(mistake.file or file).decode("utf-8", "replace")
        return {"error": {**said, "file": at, "message": str(mistake)}}
    except OSError as error:
        return {"error": {"message": f"it cannot be read: {error}"}}
    except RecursionError:
        return {"error": {"message": "it is nested too deep to be read"}}
    except Exception as error:
        return {"error": {"message": f"it cannot be read: {type(error).__name__}: {error}"}}


def main() -> None:
    """Answers requests until there are no more."""
    for line in sys.stdin.buffer:
        try:
            said = answer(json.loads(line))
        except ValueError as error:
            said = {"error": {"message": f"the request is no JSON: {error}"}}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
