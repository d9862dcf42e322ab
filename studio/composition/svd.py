"""The best approximation of the sum that is no larger than one concept."""

from torch import Tensor

from studio.composition.base import MergeSite, stacked, weighted_sum
from studio.layers.low_rank import compressed, truncated


def svd(site: MergeSite, rank: int | None = None) -> Tensor:
    """Σ λᵢ Δᵢ (out, in) cut to its first `rank` singular vectors; by default the largest rank among the concepts.

    It is PEFT's combination of this name. Where all deltas are products of thin factors, so is the decomposition,
    which costs next to nothing then.
    """
    factors = site.factors()
    thin = [low_rank for low_rank in factors if low_rank is not None]
    if len(thin) == len(factors):
        return compressed(stacked(thin), rank or max(part.rank for part in thin)).dense()
    return truncated(weighted_sum(site), rank or min(site.weight.shape)).dense()
