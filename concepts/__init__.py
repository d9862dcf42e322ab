"""The concept library: each concept's pictures, singular columns and training result, in one folder."""

from concepts.columns.allocation import ColumnBlock
from concepts.columns.overlaps import Overlap
from concepts.concept import Concept, Result
from concepts.errors import LibraryError, UnavailableError
from concepts.images.io import read_picture
from concepts.job import Columns, Job, Order
from concepts.jobs import Jobs
from concepts.leases import Lease, LeaseLostError
from concepts.library import Library
from concepts.storage import atomic_write

__all__ = [
    "ColumnBlock", "Columns", "Concept", "Job", "Jobs", "Lease", "LeaseLostError", "Library", "LibraryError", "Order",
    "Overlap", "Result", "UnavailableError", "atomic_write", "read_picture",
]  # fmt: skip
