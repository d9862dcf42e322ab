"""The concept library: each concept's pictures, singular columns, jobs and training result, in one folder.

`Library` opens a library; everything else is what its methods take and return. Torch is never imported. Names are
imported from their modules when they are first used.
"""

from typing import TYPE_CHECKING

from concepts.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from concepts.columns.allocation import ColumnBlock
    from concepts.columns.overlaps import Overlap
    from concepts.concept import Concept, Result
    from concepts.errors import LibraryError, StudioError, UnavailableError
    from concepts.images.upload_checks import read_picture
    from concepts.job import Columns, Job, Order
    from concepts.job_leases import Lease, LeaseLostError
    from concepts.job_queue import Jobs
    from concepts.library import Library
    from concepts.storage import atomic_write
else:
    __getattr__, __dir__ = lazy_attributes(
        __name__,
        {
            "concepts.columns.allocation": ("ColumnBlock",),
            "concepts.columns.overlaps": ("Overlap",),
            "concepts.concept": ("Concept", "Result"),
            "concepts.errors": ("LibraryError", "StudioError", "UnavailableError"),
            "concepts.images.upload_checks": ("read_picture",),
            "concepts.job": ("Columns", "Job", "Order"),
            "concepts.job_queue": ("Jobs",),
            "concepts.job_leases": ("Lease", "LeaseLostError"),
            "concepts.library": ("Library",),
            "concepts.storage": ("atomic_write",),
        },
    )

__all__ = [
    "ColumnBlock", "Columns", "Concept", "Job", "Jobs", "Lease", "LeaseLostError", "Library", "LibraryError", "Order",
    "Overlap", "Result", "StudioError", "UnavailableError", "atomic_write", "read_picture",
]  # fmt: skip
