"""The merge methods: many concepts in one weight. A new one is a new file and a line here."""

from studio.composition.base import MergeMethod, MergeSite, merge_biases, merge_concepts
from studio.composition.fedavg import fedavg
from studio.composition.spectral import shared_columns, spectral

MERGES: dict[str, MergeMethod] = {
    "spectral": spectral,
    "fedavg": fedavg,
}

__all__ = ["MERGES", "MergeMethod", "MergeSite", "merge_biases", "merge_concepts", "shared_columns"]
