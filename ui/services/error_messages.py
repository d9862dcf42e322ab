"""The error messages of invalid input, and of a machine that fails."""

import errno
from pathlib import Path

from pydantic_core import ValidationError

from concepts.errors import StudioError, shown
from concepts.storage import TEMPORARY, NotWritableError

USER_ERRORS = (StudioError, ValidationError, OSError)
"""What the verbs raise for bad input, for options that cannot be, and for a machine that fails."""
_BOUNDS = {
    "greater_than_equal": "at least {ge}", "greater_than": "more than {gt}", "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
}  # fmt: skip


_OF_SYSTEM = {
    errno.ENOSPC: "No room is left on the disk of {place}. Free some, or choose another folder.",
    errno.EDQUOT: "The quota of the disk of {place} is used up. Free some room, or choose another folder.",
    errno.EROFS: "{place} is on a read-only disk. Choose another folder.",
    errno.EACCES: "{place} may not be read or written by this user. Change its permissions, or choose another.",
    errno.EPERM: "{place} may not be read or written by this user. Change its permissions, or choose another.",
    errno.ENOENT: "{place} does not exist. Check the path.",
    errno.ENOTDIR: "{place} is, or is below, a file where a folder is needed. Choose another path.",
    errno.EEXIST: "{place} exists already, as a file. Choose another path.",
    errno.EISDIR: "{place} is a folder. Give a file.",
    errno.ENAMETOOLONG: "The name {place} is too long for this disk. Choose a shorter one.",
    errno.EMFILE: "Too many files are open. Close other programs, or raise the limit (ulimit -n).",
    errno.EIO: "The disk of {place} fails (input/output error). Check the disk.",
}
_NOT_WRITABLE = "The folder {place} cannot be written by this user. Change its permissions, or choose another folder."


def sentence(error: Exception) -> str:
    """The error message that a person reads. Control characters, which it may quote from the input and which a
    terminal would obey, are replaced.
    """
    return "\n".join(shown(line, len(line)) for line in _said(error).split("\n"))


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return _of_system(error)
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), StudioError):
        return str(cause)
    place = shown(".".join(map(str, first["loc"]))) or "recipe"
    if bound := _BOUNDS.get(first["type"]):
        limits = {name: _number(value) for name, value in first.get("ctx", {}).items()}
        return f"{place} must be {bound.format(**limits)}, not {first['input']}."
    said = first["msg"].removeprefix("Value error, ").rstrip(".")
    return f"Invalid {place}: {said[:1].lower()}{said[1:]}."


def _of_system(error: OSError) -> str:
    """An error of the operating system, with what to do; a temporary file is told by its folder."""
    message = _NOT_WRITABLE if isinstance(error, NotWritableError) else _OF_SYSTEM.get(error.errno or 0)
    if message is None:
        return str(error)
    path = Path(str(error.filename)) if error.filename is not None else None
    if path and TEMPORARY.fullmatch(path.name):
        path = path.parent
    return message.format(place=path or "the files that are written")


def field_of(error: ValidationError) -> str:
    """The option that is wrong."""
    return str((*error.errors()[0]["loc"], "")[0])


def _number(value: float) -> float:
    """1 rather than 1.0."""
    return int(value) if value == int(value) else value
