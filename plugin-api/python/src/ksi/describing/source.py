"""One file, and what its names stand for."""

from __future__ import annotations

import ast
import codecs
import re
import warnings
from typing import Any

from .faults import Mistake, Unknown
from .syntax import all_nodes, assignments, bound, statements

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
_PRIORITIES = {"HIGHEST": 0, "HIGH": 10, "NORMAL": 50, "LOW": 90, "LOWEST": 100}
DEPTH = 8


#: Where a file names its encoding (PEP 263): in one of its first two lines.
_ENCODING = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")


class Source:
    """One file, and what its names stand for."""

    def __init__(self, text: bytes, shown: str) -> None:
        self.shown = shown
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.tree = ast.parse(text, shown)
        except SyntaxError as error:
            raise Mistake(error.msg, *_place(text, error), shown) from None
        except (ValueError, RecursionError, MemoryError) as error:
            message = f"it cannot be parsed: {error or type(error).__name__}"
            raise Mistake(message, *_place(text), shown) from None
        #: What imports and simple assignments have made of a name: the dotted name of what it is.
        self.aliases: dict[str, str] = {}
        self.values: dict[str, ast.expr] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self.stars: list[str] = []
        self.calls: list[ast.Call] = []
        #: Functions within functions.
        self.inner: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        for node, inside in all_nodes(self.tree):
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
        for statement, _ in statements(self.tree.body):
            if isinstance(statement, ast.ClassDef):
                self.classes[statement.name] = statement
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions[statement.name] = statement
            for target, value in assignments(statement):
                assigned[target] = assigned.get(target, 0) + 1
                self.values[target] = value
                if isinstance(value, (ast.Name, ast.Attribute)):
                    self.aliases.setdefault(target, ast.unparse(value))
        #: How often the file binds a name, in whatever way.
        self.bound = bound(self.tree)
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
        if found is None or found == node.id or depth > DEPTH:
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
        if depth > DEPTH or node is None:
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


def _place(text: bytes, error: SyntaxError | None = None) -> tuple[int, int, str]:
    """The line and the column of a mistake, from 1, and the line's text. For an encoding and for
    NUL bytes the interpreter tells none; 0 if there is none."""
    if error is not None and (error.lineno or 0) > 0:
        return error.lineno or 0, max(error.offset or 0, 0), (error.text or "").strip()
    nul = text.find(b"\0")
    if nul >= 0:
        begin = text.rfind(b"\n", 0, nul) + 1
        return text.count(b"\n", 0, nul) + 1, nul - begin + 1, _shown(text[begin:nul])
    for number, line in enumerate(text.split(b"\n", 2)[:2], 1):
        found = _ENCODING.match(line[3:] if line.startswith(codecs.BOM_UTF8) else line)
        if found is not None:
            return number, found.start(1) + 1, _shown(found.string)
    return 0, 0, ""


def _shown(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()
