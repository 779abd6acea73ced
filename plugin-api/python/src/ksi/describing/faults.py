"""What ends the reading of a source, or of a part of it."""

from __future__ import annotations


class Mistake(Exception):
    """What keeps a file from being a plugin."""

    def __init__(
        self, message: str, line: int = 0, column: int = 0, text: str = "", file: str = ""
    ) -> None:
        super().__init__(message)
        self.line, self.column, self.text, self.file = line, column, text, file


class Unknown(Exception):
    """What only running tells."""
