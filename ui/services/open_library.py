"""The library at a place, with the database that the environment names."""

import os

from concepts import Library
from concepts.database import DATABASE_VARIABLE
from concepts.storage import StoragePath


def library_at(root: StoragePath | str) -> Library:
    """The library at `root`, with the database that --database or its environment variable names."""
    return Library(root, os.environ.get(DATABASE_VARIABLE) or None)
