"""Text files as people have them: UTF-8 with or without a byte order mark, UTF-16, or Windows-1252."""

import codecs
from pathlib import Path

from concepts.errors import LibraryError

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_text(file: Path, what: str, most: int | None = None) -> str:
    """The text of a file, at most `most` bytes; `what` names it in errors.

    A byte order mark decides between UTF-8 and UTF-16. Without one it is UTF-8, or else Windows-1252, as Notepad saved
    for long. Raises LibraryError for a file that cannot be read, is too long or is no text.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(-1 if most is None else most + 1)
    except OSError as error:
        raise LibraryError(f"{what} {file} could not be read ({error.strerror}). Check the path.") from error
    if most is not None and len(data) > most:
        raise LibraryError(f"{what} {file} is too long. Shorten it to {most} bytes.")
    text = _decoded(data)
    if text is None or "\0" in text:
        raise LibraryError(f"{what} {file} is no text. Save it as plain text in UTF-8.")
    return text


def _decoded(data: bytes) -> str | None:
    marked = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)
    for encoding in (marked,) if marked else ("utf-8", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None
