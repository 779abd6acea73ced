"""Imports modules that were given as texts: ``python -I -B -c BOOT NAME TEXT NAME TEXT ..``.

That is how a host runs :mod:`ksi.describing`, which needs no file of the package then.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Texts:
    """Finds modules in texts, by their names."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self.texts:
            return None
        package = any(it.startswith(f"{name}.") for it in self.texts)
        loader: Any = self
        return ModuleSpec(name, loader, origin=f"<{name}>", is_package=package)

    def create_module(self, spec: ModuleSpec) -> None:
        """As any other."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        exec(compile(self.texts[name], f"<{name}>", "exec"), module.__dict__)


if __name__ == "__main__":
    sys.meta_path.insert(0, Texts(dict(zip(sys.argv[1::2], sys.argv[2::2]))))  # noqa: B905
    from ksi.describing.program import main

    main()
