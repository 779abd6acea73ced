"""What a plugin in Python is, from its source alone: nothing of it runs, and nothing is imported.

A program by itself, so that a host can give its texts to an interpreter before anything of the
package is where it can be imported (:mod:`ksi.describing.boot`). It reads requests, a JSON object a
line: ``path`` (the file, or a folder with ``pyproject.toml``), ``file`` (where that was copied
from), ``name`` and, if that was read, ``said``: what ``pyproject.toml`` or the file's block of
PEP 723 says, as JSON. Each is answered with a line: ``manifest``, as the host reads one, or
``error``, with ``file``, ``line``, ``column``, ``text`` and ``message``.

What only running tells is not guessed: ``handlers_complete`` is false then, ``unread`` says why,
and what the plugin says of itself when it is open counts.
"""
