"""The events that a function of KSI's pluggy time takes, read from its source: no hook says so.

What is looked at is the file of the function, because such functions hand on to others: names that
``event_name`` is compared with, tables from names to functions, and decorators.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..names import EventNameError, check_pattern
from .failures import original

_ARGUMENTS = ("event_name", "event", "event_type")


@dataclass
class EventNames:
    """What is found in a file."""

    #: Names and patterns.
    names: set[str] = field(default_factory=set)
    #: Lines of the file where ``event_name`` is looked at for what only running tells.
    unread: set[int] = field(default_factory=set)
    file: str = "its source"

    @property
    def lacks(self) -> str:
        """What is not found there, for people; empty if nothing is missing."""
        if not self.names:
            return f"none of their names is found in {self.file}"
        if not self.unread:
            return ""
        lines = ", ".join(map(str, sorted(self.unread)))
        return f"not all of their names are found in {self.file} (lines {lines})"


def read_event_names(function: Callable[..., Any]) -> EventNames:
    """Those of the file of a function; none if the source is not there."""
    function = inspect.unwrap(function)
    found = EventNames()
    if isinstance(function, (types.FunctionType, types.MethodType)):
        found.file = original(function.__code__.co_filename)
    try:
        tree = ast.parse(_source(function))
    except (OSError, TypeError, SyntaxError, ValueError):
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            _of_comparison(found, node)
        elif isinstance(node, ast.Call):
            _of_call(found, node, tree)
        elif isinstance(node, ast.Subscript) and _is_name(node.slice):
            _of_table(found, node.value, node.slice, tree)
        elif isinstance(node, ast.Match) and _is_name(node.subject):
            for case in node.cases:
                for pattern in ast.walk(case.pattern):
                    if isinstance(pattern, ast.MatchValue):
                        found.names |= set(filter(_is_event, _texts(pattern.value)))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and _last(decorator.func).endswith(
                    "event_handler"
                ):
                    texts = _texts(decorator.args[0]) if decorator.args else set()
                    found.names |= set(filter(_is_event, texts))
    return found


def _of_comparison(found: EventNames, node: ast.Compare) -> None:
    sides = [node.left, *node.comparators]
    names = [side for side in sides if _is_name(side)]
    if not names or all(isinstance(it, (ast.Is, ast.IsNot)) for it in node.ops):
        return
    texts: set[str] = set().union(*map(_texts, sides))
    _found(found, texts, names[0])


def _of_call(found: EventNames, node: ast.Call, tree: ast.Module) -> None:
    """``event_name.startswith("state:")`` is every name that begins so, ``HANDLERS.get(event_name)``
    those that are keys of the table."""
    func = node.func
    if not (isinstance(func, ast.Attribute) and node.args):
        return
    if func.attr == "get" and _is_name(node.args[0]):
        _of_table(found, func.value, node.args[0], tree)
    elif func.attr in ("startswith", "endswith") and _is_name(func.value):
        # A pattern has whole segments: the hook is called for some more, and looks itself.
        texts = _texts(node.args[0]) if func.attr == "startswith" else set()
        _found(found, {f"{text[: text.rfind(':') + 1]}**" for text in texts}, func.value)


def _of_table(found: EventNames, table: ast.expr, by: ast.expr, tree: ast.Module) -> None:
    _found(found, _keys(table, tree), by)


def _found(found: EventNames, texts: set[str], looked_at: ast.expr) -> None:
    names = {text for text in texts if _is_event(text)}
    found.names |= names
    # Other variables may be called as the others are.
    if len(names) < max(1, len(texts)) and _last(looked_at) == _ARGUMENTS[0]:
        found.unread.add(looked_at.lineno)


def _source(function: Callable[..., Any]) -> str:
    module = inspect.getmodule(function)
    return inspect.getsource(module if module is not None else function)


def _keys(table: ast.expr, tree: ast.Module) -> set[str]:
    """The keys of a table that is written in the file."""
    if isinstance(table, ast.Dict):
        return {text for key in table.keys if key is not None for text in _texts(key)}
    name, found = _last(table), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            if any(_last(target) == name for target in node.targets):
                found |= _keys(node.value, tree)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            if _last(node.target) == name:
                found |= _keys(node.value, tree)
    return found


def _texts(node: ast.expr) -> set[str]:
    found = (it for it in ast.walk(node) if isinstance(it, ast.Constant))
    return {it.value for it in found if isinstance(it.value, str)}


def _is_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in _ARGUMENTS


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_event(name: str) -> bool:
    try:
        check_pattern(name)
    except EventNameError:
        return False
    return name not in ("*", "**")
