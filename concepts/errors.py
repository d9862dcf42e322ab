"""The errors for bad input; every other exception that reaches a user is a bug."""


class StudioError(ValueError):
    """Invalid input. The message says what is wrong and what to do."""


class LibraryError(StudioError):
    """Input or a state that the library rejects; the library is unchanged."""


class UnavailableError(LibraryError):
    """A disk, a database or an object store fails at the moment; a retry may succeed."""


def shown(text: str, most: int = 100) -> str:
    """A text from a file as a message shows it: no longer than `most`, and without control characters."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text[:most])
