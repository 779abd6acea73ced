"""What the files of a plugin declare: handlers, and events that they emit."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..names import pattern_fault
from .faults import Mistake, Unknown
from .source import Source
from .syntax import last, own_calls, statements

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
#: What declares handlers of checkpoints when it is called.
_PARTICIPANTS = (
    "CheckpointParticipant",
    "checkpoint_participant",
    "register_checkpoint_handlers",
)
#: Inner decorators that leave a function what it is.
_HARMLESS = ("wraps", "override", "final", "typing.override", "typing.final", "functools.wraps")


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
        for statement, certain in statements(source.tree.body):
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
            for inner, inner_certain in statements(node.body):
                self._statement(source, inner, certain and inner_certain, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # The one that is next to the function runs first.
            below: list[ast.expr] = []
            for decorator in reversed(node.decorator_list):
                if self._decorated(source, node, decorator, prefix, below) and not certain:
                    self._not_read(source, decorator, "a handler that is not declared in each case")
                below.append(decorator)
        else:
            for call in own_calls(node):
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
                elif last(call.func) in ("register_handler", "subscribe"):
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
            priority = 50 if given is None else int(source.literal(given))
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
                priority,
                timeout,
                blocking,
                node,
                schema,
                source,
            )
        )
        return True

    def _emit(self, source: Source, call: ast.Call) -> None:
        name = last(call.func)
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
            self.unread.append(place(source, call, "an event whose name is computed"))
            return
        if isinstance(event, str) and not pattern_fault(event) and "*" not in event:
            self.emits.add(event)

    def _not_read(self, source: Source, node: ast.AST, what: str) -> None:
        self.complete = False
        self.unread.append(place(source, node, what))


def _declares(source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    calls = (it for it in ast.walk(node) if isinstance(it, ast.Call))
    return any(source.is_ours(it.func, _DECORATORS) for it in calls)


def place(source: Source, node: ast.AST, what: str) -> dict[str, Any]:
    # A path need not be a text.
    file = os.fsencode(source.shown).decode("utf-8", "replace")
    return {"file": file, "line": getattr(node, "lineno", 1), "what": what}


def _argument(call: ast.Call, options: dict[str, ast.expr], at: int, name: str) -> ast.expr | None:
    found = call.args[at] if at < len(call.args) else options.get(name)
    if isinstance(found, ast.Starred):
        raise Unknown
    return found
