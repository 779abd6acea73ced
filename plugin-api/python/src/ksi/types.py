"""What the events of a host's usual modules carry, as types for handlers.

The required keys of each stand in a class of their own, because ``NotRequired`` is not there before
Python 3.11.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
    "CompletionRequest",
    "CompletionResponse",
    "CompletionResult",
    "StateQuery",
    "StateUpdate",
]


class _StateUpdateKeys(TypedDict):
    namespace: str
    key: str
    operation: Literal["set", "get", "delete"]


class StateUpdate(_StateUpdateKeys, total=False):
    """``state:update``: sets, gets or deletes one value."""

    value: Any


class _StateQueryKeys(TypedDict):
    namespace: str


class StateQuery(_StateQueryKeys, total=False):
    """``state:query``: asks for one value, or for all of a namespace."""

    key: str


class _CompletionRequestKeys(TypedDict):
    prompt: str


class CompletionRequest(_CompletionRequestKeys, total=False):
    """``completion:request``: asks for a completion of a prompt."""

    model: str
    temperature: float
    max_tokens: int
    stream: bool
    messages: list[dict[str, Any]]
    session_id: str


class CompletionResponse(TypedDict, total=False):
    """The reply to ``completion:request``."""

    result: str
    model: str
    usage: dict[str, int]
    session_id: str


class CompletionResult(TypedDict, total=False):
    """``completion:result``: what became of a request."""

    result: str
    model: str
    usage: dict[str, int]
    session_id: str
