"""The concept library: each concept's pictures, singular columns and training result, in one folder."""

from concepts.errors import LibraryError
from concepts.images import read_picture
from concepts.ledger import ColumnBlock, Overlap
from concepts.library import Concept, Library, Result
from concepts.storage import atomic_write

__all__ = ["ColumnBlock", "Concept", "Library", "LibraryError", "Overlap", "Result", "atomic_write", "read_picture"]
