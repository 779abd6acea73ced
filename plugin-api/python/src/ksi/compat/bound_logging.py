"""What KSI's modules import of ``ksi_common.logging``."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

_OF_LOGGING = ("exc_info", "extra", "stack_info", "stacklevel")


class BoundLogger(logging.LoggerAdapter):  # type: ignore[type-arg]
    """A logger whose calls may name values beside the message."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        values = {key: kwargs.pop(key) for key in list(kwargs) if key not in _OF_LOGGING}
        if values:
            told = " ".join(f"{key}={value!r}" for key, value in values.items())
            msg = f"{msg} {told}"
        return msg, kwargs

    def bind(self, **values: Any) -> BoundLogger:
        """The same one: what is bound is not repeated in each line."""
        return self


def get_bound_logger(name: str, **values: Any) -> BoundLogger:
    """A logger of that name."""
    return BoundLogger(logging.getLogger(name), {})


def get_logger(name: str = "", **values: Any) -> BoundLogger:
    """The same."""
    return get_bound_logger(name, **values)
