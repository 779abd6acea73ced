"""Schemas of :mod:`ksi.types`, whose source need not be there."""

from __future__ import annotations

from typing import Any

#: Schemas of `ksi.types`, whose source need not be there.
KSI_TYPES: dict[str, Any] = {
    "CompletionRequest": {
        "type": "object",
        "properties": {
            "prompt": {"type": "string"},
            "model": {"type": "string"},
            "temperature": {"type": "number"},
            "max_tokens": {"type": "integer"},
            "stream": {"type": "boolean"},
            "messages": {"type": "array", "items": {"type": "object"}},
            "session_id": {"type": "string"},
        },
        "required": ["prompt"],
        "description": "``completion:request``: asks for a completion of a prompt.",
    },
    "CompletionResponse": {
        "type": "object",
        "properties": {
            "result": {"type": "string"},
            "model": {"type": "string"},
            "usage": {"type": "object", "additionalProperties": {"type": "integer"}},
            "session_id": {"type": "string"},
        },
        "required": [],
        "description": "The reply to ``completion:request``.",
    },
    "CompletionResult": {
        "type": "object",
        "properties": {
            "result": {"type": "string"},
            "model": {"type": "string"},
            "usage": {"type": "object", "additionalProperties": {"type": "integer"}},
            "session_id": {"type": "string"},
        },
        "required": [],
        "description": "``completion:result``: what became of a request.",
    },
    "StateQuery": {
        "type": "object",
        "properties": {"namespace": {"type": "string"}, "key": {"type": "string"}},
        "required": ["namespace"],
        "description": "``state:query``: asks for one value, or for all of a namespace.",
    },
    "StateUpdate": {
        "type": "object",
        "properties": {
            "namespace": {"type": "string"},
            "key": {"type": "string"},
            "operation": {"enum": ["set", "get", "delete"]},
            "value": {},
        },
        "required": ["namespace", "key", "operation"],
        "description": "``state:update``: sets, gets or deletes one value.",
    },
}
