"""JSON Schemas of what handlers take, by their annotations."""

from __future__ import annotations

import ast
import json
from typing import Any

from .faults import Unknown
from .ksi_types import KSI_TYPES
from .plugin import Handler
from .source import DEPTH, Source
from .syntax import assignments, last

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


def data_schema(handler: Handler) -> dict[str, Any] | None:
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


def schema_of(source: Source, node: ast.expr, depth: int = 0) -> dict[str, Any] | None:
    """The JSON Schema of an annotation; ``None`` for what says nothing."""
    if depth > DEPTH:
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
    name = last(node)
    if isinstance(node, ast.Name):
        if node.id in source.classes:
            return _class(source, source.classes[node.id], depth)
        value = source.values.get(node.id)
        if value is not None:
            if isinstance(value, ast.Call) and last(value.func) == "TypedDict":
                return _functional(source, value, depth)
            return schema_of(source, value, depth + 1)
    module, _, ours = source.resolve(node).rpartition(".")
    if module == "ksi.types" and ours in KSI_TYPES:
        return json.loads(json.dumps(KSI_TYPES[ours]))  # type: ignore[no-any-return]
    return {"type": _PLAIN[name]} if name in _PLAIN else None


def _subscript(source: Source, node: ast.Subscript, depth: int) -> dict[str, Any] | None:
    name = last(node.value)
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
    bases = [last(it) for it in node.bases]
    if any(it in ("Enum", "IntEnum", "StrEnum") for it in bases):
        try:
            return {"enum": [source.literal(v) for s in node.body for _, v in assignments(s)]}
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
        if last(base) == "TypedDict":
            is_one = True
        elif above is not None and above is not node and depth < DEPTH:
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
        mark = last(inner.value)
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
