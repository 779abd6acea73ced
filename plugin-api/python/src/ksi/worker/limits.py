"""What OPEN says: which file to run, and within which bounds."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, fields
from typing import Any

from . import frames
from .frames import ProtocolError


@dataclass
class Limits:
    """Bounds that a worker keeps by itself. The defaults are those of a host without a
    configuration."""

    frame: int = frames.FRAME_LIMIT
    payload: int = 10 << 20
    state: int = 64 << 20
    depth: int = 64
    tasks: int = 4_096
    blocking_threads: int = 64
    subscriptions: int = 1_024
    emits: int = 4_096
    sends: int = 1_024
    kept_contexts: int = 4_096
    watch_events: int = 1_024
    watch_bytes: int = 32 << 20


@dataclass
class PythonOptions:
    """What OPEN says to workers in Python alone."""

    #: The name under which the file is run; of the plugin if it is empty.
    module: str = ""
    #: Globals that are the state of a module that says nothing else; if it is not said, `_state`
    #: where that is a dict or a list.
    keep: list[str] | None = None
    #: Folders to import from.
    path: list[str] = field(default_factory=list)
    #: The same behind those: what is there is not the plugin's.
    shared: list[str] = field(default_factory=list)
    #: The file to run in a folder.
    entry: str = ""
    kind: str = "module"
    #: Whether ``ksi_daemon.event_system`` is this package, see :mod:`ksi.compat`.
    compat: bool = True
    #: What a plugin of the kind ``pluggy`` is made of, see :mod:`ksi.worker.pluggy_plugin`.
    pluggy: dict[str, Any] = field(default_factory=dict)


@dataclass
class Open:
    """All of it."""

    plugin: str
    path: str
    file: str = ""
    trial: bool = False
    level: int = 3
    limits: Limits = field(default_factory=Limits)
    python: PythonOptions = field(default_factory=PythonOptions)

    @property
    def source(self) -> str:
        """The file that is run."""
        return os.path.join(self.path, self.python.entry) if self.python.entry else self.path

    @property
    def shown(self) -> str:
        """The file that it was copied from."""
        file = self.file or self.path
        return os.path.join(file, self.python.entry) if self.python.entry else file


def read_open(said: Any) -> Open:
    """Reads OPEN. Keys that are not known are passed over.

    Raises:
        ProtocolError: it is of another version, or lacks what it must have.
    """
    try:
        major, minor = said["protocol"]["major"], said["protocol"]["minor"]
        if major != frames.VERSION[0]:
            ours = ".".join(map(str, frames.VERSION))
            raise ProtocolError(f"the host speaks version {major}.{minor}, and this is {ours}")
        open = Open(str(said["plugin"]), _path(said["path"]))
        open.file = _path(said.get("file") or b"")
        open.trial, open.level = bool(said.get("trial")), int(said.get("level") or 0)
        _fill(open.limits, said.get("limits") or {})
        _fill(open.python, said.get("python") or {})
        return open
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"OPEN lacks something: {error!r}") from None


def _path(said: Any) -> str:
    """A path comes as a list of bytes, because it need not be a text."""
    return os.fsdecode(said if isinstance(said, (str, bytes)) else bytes(said))


def _fill(to: Any, said: dict[str, Any]) -> None:
    for known in fields(to):
        if said.get(known.name) is not None:
            before, value = getattr(to, known.name), said[known.name]
            setattr(to, known.name, list(value) if before is None else type(before)(value))


def hello() -> dict[str, Any]:
    """What HELLO says."""
    major, minor = frames.VERSION
    return {
        "protocol": {"major": major, "minor": minor},
        "pid": os.getpid(),
        "features": ["python"],
        "python": {
            "version": ".".join(map(str, sys.version_info[:3])),
            "executable": sys.executable,
        },
    }
