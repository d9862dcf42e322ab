"""The library at a place, with the database that the environment names."""

import os
from typing import TYPE_CHECKING

from concepts.environment import DATABASE_VARIABLE

if TYPE_CHECKING:
    from concepts import Library
    from concepts.storage import StoragePath


def library_at(root: "StoragePath | str") -> "Library":
    """The library at `root`, with the database that --database or its environment variable names."""
    from concepts import Library

    return Library(root, os.environ.get(DATABASE_VARIABLE) or None)
