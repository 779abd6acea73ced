"""Descriptors that outlive an instance: the host keeps them for the next version of the plugin."""

from __future__ import annotations

import os
import socket
from typing import Protocol

from . import _link

__all__ = ["keep", "kept", "kept_socket", "listen", "stop_keeping"]


class HasFileno(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int: ...


async def listen(address: str) -> socket.socket:
    """The socket that listens at an address, as ``127.0.0.1:8080`` or a path. It is bound at the
    first time, and the same one for each version: no connection is lost in a replacement.

    Raises:
        EventRefused: it is no address, it is taken, or the operator does not allow it.
    """
    descriptor = await _link.current().resource("listen", address)
    if not descriptor:
        raise RuntimeError(f"the host gives no socket for {address}")
    return socket.socket(fileno=descriptor)


async def keep(name: str, what: int | HasFileno) -> None:
    """Has a copy of a descriptor kept under a name, in place of the one that is kept there."""
    descriptor = what if isinstance(what, int) else what.fileno()
    await _link.current().resource("keep", name, descriptor)


async def kept(name: str) -> int | None:
    """A copy of the descriptor that is kept under a name, for the caller to close; ``None`` if
    there is none."""
    return await _link.current().resource("kept", name)


async def kept_socket(name: str) -> socket.socket | None:
    """The same as a socket."""
    descriptor = await kept(name)
    if descriptor is None:
        return None
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise


async def stop_keeping(name: str) -> bool:
    """Keeps it no longer; whether there was one."""
    return await _link.current().resource("stop_keeping", name) is not None
