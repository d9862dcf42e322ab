"""Truncated SVD of the sum, by default of one concept's rank."""

from torch import Tensor

from studio.composition.base import MergeSite, stacked, weighted_sum
from studio.layers.low_rank import compressed, truncated


def svd(site: MergeSite, rank: int | None = None) -> Tensor:
    """Σ λᵢ Δᵢ (out, in) truncated to its first `rank` singular vectors; by default the highest rank of the concepts.

    As combination_type="svd" in PEFT. If a concept's change is not a low-rank product (oft, dora, krona and others),
    the default is the full rank: no truncation.
    """
    factors = site.factors()
    thin = [low_rank for low_rank in factors if low_rank is not None]
    if len(thin) == len(factors):
        return compressed(stacked(thin), rank or max(part.rank for part in thin)).dense()
    return truncated(weighted_sum(site), rank or min(site.weight.shape)).dense()
