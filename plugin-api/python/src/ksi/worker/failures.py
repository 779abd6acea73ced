"""What went wrong, for people: an exception as a code and a few lines."""

from __future__ import annotations

import os
import sys
import traceback

#: Frames of a traceback that are told, the innermost ones.
_FRAMES = 4
#: Groups of errors in each other that are told.
_GROUPS = 3
#: Characters of a message.
_LONGEST = 8_000
#: What is said to whoever has a plugin of several files.
_A_FOLDER = (
    "make a folder of the files that belong together, with a pyproject.toml that has [tool.ksi]"
)
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

#: Folders that run as copies, and where they were copied from.
shown_as: dict[str, str] = {}

#: What a package is called where it is installed from, if that is not what is imported.
_DISTRIBUTIONS = {
    "PIL": "Pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "frontmatter": "python-frontmatter",
    "git": "GitPython",
    "google.protobuf": "protobuf",
    "jwt": "PyJWT",
    "ruamel": "ruamel.yaml",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}


class Told(Exception):
    """A failure of the worker's own making, whose text says all there is to say."""

    code = "worker"


def code_of(error: BaseException) -> str:
    """The class of an exception."""
    return error.code if isinstance(error, Told) else type(error).__name__


def message_of(error: BaseException) -> str:
    """What an exception says, and the last places that it passed, the innermost first."""
    if isinstance(error, Told):
        return str(error)[:_LONGEST]
    lines = [summary_of(error), *_of_group(error)]
    places: list[str] = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith((_HERE, "<frozen")) or frame.lineno is None:
            continue
        line = f"  {original(frame.filename)}, line {frame.lineno}, in {frame.name}"
        places.append(f"{line}: {frame.line.strip()}" if frame.line else line)
    lines += reversed(places[-_FRAMES:])
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        lines.append(f"  after {summary_of(cause)}")
    return "\n".join(lines)[:_LONGEST]


def _of_group(error: BaseException, indent: str = "  ") -> list[str]:
    """The errors of a group, with those of groups in it."""
    errors = getattr(error, "exceptions", None)
    if not isinstance(errors, tuple) or len(indent) > 2 * _GROUPS:
        return []
    lines: list[str] = []
    for one in errors[:_FRAMES]:
        lines += [f"{indent}of {summary_of(one)}", *_of_group(one, indent + "  ")]
    if len(errors) > _FRAMES:
        lines.append(f"{indent}and {len(errors) - _FRAMES} more")
    return lines


def summary_of(error: BaseException) -> str:
    """Its class and its text, in one line."""
    try:
        text = str(error).strip()
    except Exception:
        text = "it has no text that can be shown"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def loading_message(error: BaseException, shown: str) -> str:
    """Why a file could not be run: what was tried, what was found, what to do."""
    file = os.path.basename(shown)
    if isinstance(error, Told):
        return f"{file}: {error}"
    if isinstance(error, SyntaxError):
        place = original(error.filename or shown)
        text = (error.text or "").strip()
        line = f"{place}, line {error.lineno}: {error.msg}"
        return f"{line}: {text}" if text else line
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing(error.name, shown)
    if isinstance(error, ImportError) and "attempted relative import" in str(error):
        return (
            f"{file} has a relative import, and is in no package{_where(error)}: {_A_FOLDER}, or "
            "name the folder above its package in `python.path` of the host's configuration"
        )
    if isinstance(error, SystemExit):
        return (
            f"{file} ends the interpreter while it is imported: {summary_of(error)}{_where(error)}"
        )
    return f"{file} cannot be imported: {message_of(error)}"


def _missing(name: str, shown: str) -> str:
    file, top = os.path.basename(shown), name.split(".")[0]
    if top in ("ksi_daemon", "ksi_common"):
        return (
            f"{file} imports {name}, a part of KSI that is not here: name the folder that {top} "
            "lies in in `python.path` of the host's configuration"
        )
    beside = os.path.join(os.path.dirname(shown), top)
    for found in (f"{beside}.py", os.path.join(beside, "__init__.py")):
        if os.path.isfile(found):
            return (
                f"{file} imports {name}, which is {found}, and a plugin that is one file imports "
                f"nothing that lies beside it: {_A_FOLDER}, or put what several plugins import "
                "into a folder that `python.path` of the host's configuration names"
            )
    wanted = _DISTRIBUTIONS.get(name) or _DISTRIBUTIONS.get(top, top)
    return (
        f"{file} imports {name}, and there is no such module for {sys.executable}. Name the "
        "package among its dependencies, or install it there: "
        f"{sys.executable} -m pip install {wanted}"
    )


def _where(error: BaseException) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_HERE, "<frozen"))
    ]
    return f" (line {frames[-1].lineno})" if frames else ""


def original(file: str) -> str:
    """Where a file was copied from."""
    for copy, shown in shown_as.items():
        if file == copy or file.startswith(copy + os.sep):
            return shown + file[len(copy) :]
    return file
