"""Why the host does not do what a module asks for."""

from __future__ import annotations

from typing import Final


class RefusalCode:
    """Numbers of refusals, as the host has them. There may be others."""

    INVALID_NAME: Final = 1
    INVALID_PATTERN: Final = 2
    QUEUE_FULL: Final = 3
    QUEUE_BYTES: Final = 4
    TOO_LARGE: Final = 5
    TOO_DEEP: Final = 6
    NOT_ENCODABLE: Final = 7
    TOO_MANY_SUBSCRIPTIONS: Final = 8
    TOO_MANY_TASKS: Final = 9
    TOO_MANY_WATCHES: Final = 10
    RETIRING: Final = 11
    TRIAL: Final = 12
    INVALID_ADDRESS: Final = 13
    ADDRESS_UNAVAILABLE: Final = 14
    TOO_MANY_RESOURCES: Final = 15
    INVALID_RESOURCE_NAME: Final = 16
    UNLOADED: Final = 17
    NO_DESCRIPTOR: Final = 18
    HOST_PANICKED: Final = 19
    UNSUPPORTED: Final = 20
    TOO_MANY_ASKS: Final = 21
    NOT_ALLOWED: Final = 22


class EventRefused(Exception):
    """The host does not accept what was asked for."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        #: One of :class:`RefusalCode`.
        self.code = code

    def __reduce__(self) -> tuple[type[EventRefused], tuple[int, str]]:
        return type(self), (self.code, str(self))
