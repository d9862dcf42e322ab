"""The errors for bad input; every other exception that reaches a user is a bug."""


class StudioError(ValueError):
    """Bad input. Its message is one sentence that says what was wrong and what to do."""


class LibraryError(StudioError):
    """What the library refuses, being left as it was."""


class UnavailableError(LibraryError):
    """A disk, a database or a store refuses just now; the same may well work another time."""
