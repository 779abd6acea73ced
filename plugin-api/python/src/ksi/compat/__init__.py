"""The names by which KSI's own modules import what is in this package.

``ksi_daemon.event_system`` is this package in each case, also where KSI itself can be imported: its
own router would take the handlers, and no host would hear of them. The others are here for modules
without KSI around them: KSI's own are taken where they can be imported.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

#: What is taken in place of whatever else there is.
_ALWAYS = {"ksi_daemon.event_system": "ksi.compat.event_system"}
#: What is taken where there is nothing else. An empty one is a package.
_OTHERWISE = {
    "ksi_daemon": "",
    "ksi_common": "",
    "ksi_common.checkpoint_participation": "ksi.service",
    "ksi_common.event_parser": "ksi.compat.event_parser",
    "ksi_common.event_response_builder": "ksi.responses",
    "ksi_common.logging": "ksi.compat.bound_logging",
    "ksi_common.service_lifecycle": "ksi.service",
}


def install() -> None:
    """Has them found from here on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(_ALWAYS))
        sys.meta_path.append(_Finder(_OTHERWISE))


class _Finder:
    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        stands_for = self._names.get(name)
        if stands_for is None:
            return None
        # Not of `importlib.abc`, which takes 30 ms to import.
        loader: Any = _Loader(stands_for)
        return importlib.machinery.ModuleSpec(name, loader, is_package=not stands_for)


class _Loader:
    def __init__(self, stands_for: str) -> None:
        self._stands_for = stands_for

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if self._stands_for:
            found = importlib.import_module(self._stands_for)
            public = {k: v for k, v in vars(found).items() if not k.startswith("__")}
            vars(module).update(public)
