"""Walks over the syntax tree of a module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any


def last(node: ast.expr) -> str:
    """The last part of a dotted name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def assignments(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        if isinstance(node.target, ast.Name):
            yield node.target.id, node.value


def statements(body: list[ast.stmt], certain: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """Those that an import runs, in their order, and whether it does in each case."""
    for node in body:
        if isinstance(node, ast.If):
            test = ast.unparse(node.test)
            if "__main__" in test or test.endswith("TYPE_CHECKING"):
                yield from statements(node.orelse, certain)
                continue
            yield from statements(node.body, False)
            yield from statements(node.orelse, False)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            yield from statements(node.body, certain)
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            yield from statements([*node.body, *node.orelse], False)
        elif isinstance(node, ast.Try) or type(node).__name__ == "TryStar":
            for part in ("body", "orelse"):
                yield from statements(getattr(node, part), False)
            for handler in getattr(node, "handlers", ()):
                yield from statements(handler.body, False)
            yield from statements(getattr(node, "finalbody", []), certain)
        elif type(node).__name__ == "Match":
            for case in getattr(node, "cases", ()):
                yield from statements(case.body, False)
        else:
            yield node, certain


def bound(tree: ast.Module) -> dict[str, int]:
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


def all_nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
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


def own_calls(node: ast.stmt) -> Iterator[ast.Call]:
    """Calls of a statement, without those of functions that it defines."""
    left: list[ast.AST] = [node]
    while left:
        found = left.pop()
        if isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(found, ast.Call):
            yield found
        left += ast.iter_child_nodes(found)
