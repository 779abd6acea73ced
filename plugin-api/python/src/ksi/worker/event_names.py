"""The events that a function of KSI's pluggy time takes, read from its source: no hook says so.

What is looked at is the file of the function, because such functions hand on to others: names that
``event_name`` is compared with, tables from names to functions, and decorators.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

from ..names import EventNameError, check_pattern

_ARGUMENTS = ("event_name", "event", "event_type")


def event_names_of(function: Callable[..., Any]) -> set[str]:
    """Names and patterns; empty if the source is not there."""
    try:
        tree = ast.parse(_source(inspect.unwrap(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(_is_name(side) for side in sides):
                for side in sides:
                    names |= _texts(side)
        elif isinstance(node, ast.Call):
            names |= _of_call(node)
        elif isinstance(node, ast.Subscript) and _is_name(node.slice):
            names |= _keys(node.value, tree)
        elif isinstance(node, ast.Match) and _is_name(node.subject):
            for case in node.cases:
                for pattern in ast.walk(case.pattern):
                    if isinstance(pattern, ast.MatchValue):
                        names |= _texts(pattern.value)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and _last(decorator.func).endswith(
                    "event_handler"
                ):
                    names |= _texts(decorator.args[0]) if decorator.args else set()
        if isinstance(node, ast.Call) and _last(node.func) == "get" and node.args:
            if _is_name(node.args[0]) and isinstance(node.func, ast.Attribute):
                names |= _keys(node.func.value, tree)
    return {name for name in names if _is_event(name)}


def _source(function: Callable[..., Any]) -> str:
    module = inspect.getmodule(function)
    return inspect.getsource(module if module is not None else function)


def _of_call(node: ast.Call) -> set[str]:
    """``event_name.startswith("state:")`` is every name that begins so."""
    func = node.func
    if not (isinstance(func, ast.Attribute) and func.attr == "startswith" and node.args):
        return set()
    if not _is_name(func.value):
        return set()
    return {f"{text}**" for text in _texts(node.args[0]) if text.endswith(":")}


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
    return name != "*"
