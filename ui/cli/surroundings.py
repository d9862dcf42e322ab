"""What the machine must give a command before it begins: text in UTF-8, and a working folder."""

import os
import sys
from collections.abc import Sequence

from concepts.errors import StudioError


def check_surroundings(arguments: Sequence[str]) -> None:
    """Lets characters that the terminal's encoding lacks be printed as escapes.

    Raises StudioError for an argument that is not UTF-8 and no file's name, for a working folder that is gone, and for
    a Python without docstrings.
    """
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict":
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if sys.flags.optimize > 1:
        raise StudioError(
            "Python runs without docstrings (-OO or PYTHONOPTIMIZE=2), which transformers needs. Run it without that."
        )
    for argument in arguments:
        if not _is_text(argument) and not os.path.lexists(argument):
            shown = argument.encode(errors="backslashreplace").decode()
            raise StudioError(f"The argument {shown} is not UTF-8. Write it in UTF-8, or set the terminal to it.")
    try:
        os.getcwd()
    except OSError as error:
        raise StudioError("The working folder no longer exists. Change to another folder and try again.") from error


def _is_text(argument: str) -> bool:
    """Whether Python could decode all of an argument: bytes that it could not decode are surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in argument)
