"""The manifest of a plugin, as the host reads one."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from typing import Any

from ..names import unique_names
from .data import data_schema
from .faults import Mistake, Unknown
from .plugin import Plugin, place
from .project import (
    Table,
    block_of,
    check_name,
    entry_of,
    pluggy,
    read_toml,
    required,
    satisfies,
    settings_of,
)
from .source import Source
from .state import state_of

#: Events that the worker tells of, and the host does not.
_LIFE = ("system:startup", "system:context", "system:ready")
_COLLECT, _RESTORE = "checkpoint:collect", "checkpoint:restore"
_SHUTDOWN = {"system:shutdown": "module:shutdown"}


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
        settings = settings_of(table)
        plugin = Plugin(path, file)
        if settings.text("kind") == "pluggy":
            # Its hooks are found when its plugins are there.
            entry, main, plugin.complete = "", Source(b"", file), False
        else:
            entry = entry_of(path, settings.text("module"), project.text("name") or name)
            main = plugin.read(os.path.join(path, entry), os.path.join(file, entry))
    else:
        entry, plugin = "", Plugin("", file)
        main = plugin.read(path, file)
        project = Table(block_of(path, file, said), "the head of the file")
        settings = settings_of(project)
    way_out = f"rename the {'folder' if os.path.isdir(path) else 'file'}"
    if settings.has("name"):
        name, way_out = settings.text("name"), "change tool.ksi.name"
    check_name(name, way_out)
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
        keep, state = state_of(main, keep, {_COLLECT, _RESTORE} <= events)
    except Unknown as unknown:
        state = None
        plugin.unread.append(place(main, main.tree, str(unknown)))
    schemas = {it: data_schema(handler) for it, handler in shown}
    manifest = {
        "format": 1,
        "name": name,
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
        "requires": required(settings),
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
        "pluggy": pluggy(settings),
    }
    return manifest


def _version(source: Source, path: str, entry: str) -> str:
    try:
        return str(source.literal(source.values.get("__version__")))
    except Unknown:
        if os.path.isdir(path) and not entry:
            return "0"
        with open(os.path.join(path, entry) if entry else path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()[:12]


def _summary(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
