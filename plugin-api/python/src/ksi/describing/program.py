"""Answers requests line by line."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from .faults import Mistake
from .manifest import describe


def answer(request: Any) -> dict[str, Any]:
    """The answer to one request."""
    try:
        path = str(request["path"])
        file, name = str(request.get("file") or path), request.get("name")
        stem = os.path.splitext(os.path.basename(file))[0]
        said = (request["said"] or {}) if "said" in request else None
        return {"manifest": describe(path, file, str(name or stem), said)}
    except Mistake as mistake:
        said = {"line": mistake.line, "column": mistake.column, "text": mistake.text[:500]}
        # A path need not be a text.
        at = os.fsencode(mistake.file or file).decode("utf-8", "replace")
        return {"error": {**said, "file": at, "message": str(mistake)}}
    except OSError as error:
        return {"error": {"message": f"it cannot be read: {error}"}}
    except RecursionError:
        return {"error": {"message": "it is nested too deep to be read"}}
    except Exception as error:
        return {"error": {"message": f"it cannot be read: {type(error).__name__}: {error}"}}


def main() -> None:
    """Answers requests until there are no more."""
    for line in sys.stdin.buffer:
        try:
            said = answer(json.loads(line))
        except ValueError as error:
            said = {"error": {"message": f"the request is no JSON: {error}"}}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
