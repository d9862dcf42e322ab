"""The errors that the library raises for what a person can put right."""


class LibraryError(ValueError):
    """What the library refuses, being left as it was; the message is one sentence that says what to do."""


class UnavailableError(LibraryError):
    """A disk, a database or a store refuses just now; the same may well work another time."""
