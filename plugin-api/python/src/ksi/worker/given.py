"""Who has given what, while a hook of pluggy is called: a result that is no JSON is one plugin's.

Implementations say what they give. Their order, and all else, stays pluggy's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

#: What the implementations of the hook that is being called have given, by their plugins' names.
Given = list[tuple[str, Any]]

given: ContextVar[Given | None] = ContextVar("ksi_pluggy_given", default=None)


class Recorded:
    """The implementations that say what they give."""

    def __init__(self) -> None:
        self._done: set[int] = set()

    def record(self, hook: Any) -> None:
        """Has those of a hook say it."""
        for it in hook.get_hookimpls():
            if id(it) in self._done:
                continue
            self._done.add(id(it))
            if it.wrapper or it.hookwrapper:
                it.function = _wrapping(it.function, it.plugin_name)
            else:
                it.function = _recording(it.function, it.plugin_name)


def giver(value: Any, by: Given) -> str:
    """The plugin that has given a value; empty if none has."""
    return next((plugin for plugin, it in reversed(by) if it is value), "")


def _recording(function: Callable[..., Any], plugin: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def recorded(*args: Any) -> Any:
        result = function(*args)
        by = given.get()
        if by is not None and result is not None:
            by.append((plugin, result))
        return result

    return recorded


def _wrapping(function: Callable[..., Any], plugin: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def recorded(*args: Any) -> Any:
        by = given.get()
        return function(*args) if by is None else _Wrapper(function(*args), plugin, by)

    return recorded


class _Wrapper:
    """The generator of a wrapper, new or old. In what pluggy tells of it, it is the plugin's."""

    def __init__(self, inner: Generator[Any, Any, Any], plugin: str, by: Given) -> None:
        self._inner, self._plugin, self._by = inner, plugin, by

    def __next__(self) -> Any:
        return next(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, result: Any) -> Any:
        try:
            return self._inner.send(result)
        except StopIteration as end:
            # An old one has got an object that it may give another result.
            self._note(_result_of(result) if end.value is None else end.value)
            raise

    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except StopIteration as end:
            self._note(end.value)
            raise

    def close(self) -> None:
        self._inner.close()

    def _note(self, result: Any) -> None:
        for value in (result, *(result if isinstance(result, list) else ())):
            if value is not None and not giver(value, self._by):
                self._by.append((self._plugin, value))


def _result_of(outcome: Any) -> Any:
    try:
        return outcome.get_result()
    except BaseException:
        return None  # An error, or what a new wrapper has got, which gives None in its place.
