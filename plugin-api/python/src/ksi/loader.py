"""Runs the file of a module, and tells which handlers it declares."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import _link
from .events import EventHandler
from .names import unique_names

__all__ = ["Declared", "LoadedModule", "load_module", "unique_names"]


@dataclass
class Declared:
    """A handler, with the name by which the host knows it."""

    name: str
    handler: EventHandler


@dataclass
class LoadedModule:
    """A module that was run."""

    module: types.ModuleType
    handlers: list[Declared] = field(default_factory=list)

    def function(self, name: str) -> Callable[..., Any] | None:
        """A function of the module, by its name; ``None`` if there is none that it has defined."""
        found = getattr(self.module, name, None)
        return found if inspect.isroutine(found) else None


def load_module(source: str, name: str, shown: str = "") -> LoadedModule:
    """Runs a file as the module ``name``.

    Args:
        source: The file that is run.
        name: What it is called; another name is taken if an import of this one gives something
            else, of the interpreter or of a package that the module may need.
        shown: The file that stands in ``__file__`` and in tracebacks, if that is another one.

    Raises:
        BaseException: whatever the file raises.
    """
    before = len(_link.declared)
    dotted = _importable(source)
    if dotted:
        module = importlib.import_module(dotted)
    else:
        module = run_file(source, name, shown or source)
    new = _link.declared[before:]
    names = unique_names([(it.name, it.qualified_name) for it in new])
    return LoadedModule(module, [Declared(*pair) for pair in zip(names, new, strict=True)])


def run_file(source: str, name: str, shown: str) -> types.ModuleType:
    """Runs a file as a module of its own, which stands in ``sys.modules``."""
    package = _package_of(shown)
    if package:
        # Others of the package import it by this name, and it is to be one module.
        name = f"{package}.{os.path.splitext(os.path.basename(shown))[0]}"
    elif name in sys.modules or name in sys.stdlib_module_names or _is_others(name, source):
        name = f"ksi_module_{name}"
    with open(source, "rb") as file:
        text = file.read()
    # Before it is compiled, so that an error shows its line.
    _remember_lines(shown, text)
    code = compile(text, shown, "exec", dont_inherit=True)
    module = types.ModuleType(name)
    spec = importlib.machinery.ModuleSpec(name, None, origin=shown)
    module.__file__, module.__spec__ = shown, spec
    if os.path.basename(source) == "__init__.py":
        spec.submodule_search_locations = module.__path__ = [os.path.dirname(source)]
        module.__package__ = name
    else:
        module.__package__ = package
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _package_of(shown: str) -> str:
    """The package that a file lies in, below a folder that the operator has modules imported from;
    empty if it is in none."""
    folder, roots = os.path.dirname(os.path.realpath(shown)), map(os.path.realpath, _link.shared)
    if not os.path.isfile(os.path.join(folder, "__init__.py")):
        return ""
    root = next((it for it in roots if folder.startswith(it + os.sep)), None)
    names = os.path.relpath(folder, root).split(os.sep) if root else []
    return ".".join(names) if all(it.isidentifier() for it in names) else ""


def _is_others(name: str, source: str) -> bool:
    """Whether an import of this name would give something else than the file."""
    # To look for one with a dot would import what is before it.
    spec = None if "." in name else importlib.util.find_spec(name)
    if spec is None:
        return False
    origin = spec.origin
    return origin is None or not os.path.exists(origin) or not os.path.samefile(origin, source)


def _importable(source: str) -> str:
    """The name by which a file of a package is imported, if it lies in one below a folder of
    ``sys.path``: others import it by that name too, and it is to be one module."""
    stem, extension = os.path.splitext(os.path.abspath(source))
    if extension != ".py":
        return ""
    parts = stem.split(os.sep)
    if parts[-1] == "__init__":
        parts.pop()
    elif not os.path.exists(os.path.join(os.path.dirname(stem), "__init__.py")):
        return ""
    for count in range(1, len(parts)):
        folder, names = os.sep.join(parts[:-count]), parts[-count:]
        if not all(name.isidentifier() for name in names):
            return ""
        if folder in sys.path and not os.path.exists(os.path.join(folder, "__init__.py")):
            return ".".join(names)
    return ""


def _remember_lines(shown: str, text: bytes) -> None:
    """Tracebacks show the lines that run, whatever stands in the file by then."""
    try:
        lines = text.decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        return
    linecache.cache[shown] = (len(text), None, lines, shown)
