"""What KSI's modules import of ``ksi_common.event_parser``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..responses import METADATA

SYSTEM_METADATA_FIELDS = frozenset(METADATA)


def extract_system_handler_data(raw_data: Any) -> tuple[Any, dict[str, Any]]:
    """What an event carries, and what stands among it of whose event it is."""
    if not isinstance(raw_data, Mapping):
        return raw_data, {}
    hidden = {*METADATA, "_ksi_context"}
    clean = {key: value for key, value in raw_data.items() if key not in hidden}
    return clean, {key: raw_data[key] for key in raw_data if key in hidden}


def event_format_linter(raw_data: Any, expected_format: Any = None) -> Any:
    """What an event carries, without what stands among it of whose event it is."""
    return extract_system_handler_data(raw_data)[0]
