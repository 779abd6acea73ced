"""What a module knows over a replacement, as far as its source says so."""

from __future__ import annotations

import ast
import sys

from .faults import Mistake, Unknown
from .source import Source
from .syntax import last

#: The global that is kept if nobody says what is, and the functions that go before it.
_KEPT = "_state"
_FUNCTIONS = ("snapshot", "restore")
_CONTAINERS = ("dict", "list", "defaultdict", "OrderedDict", "Counter")


def state_of(
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
    if isinstance(value, ast.Call) and last(value.func) in _CONTAINERS:
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
