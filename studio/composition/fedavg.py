"""Federated averaging: the weighted sum of the concepts' deltas."""

from torch import Tensor

from studio.composition.base import MergeSite, weighted_sum


def fedavg(site: MergeSite) -> Tensor:
    """Σ λᵢ Δᵢ (out, in), the weighted sum of the changes: `cat` in PEFT.

    Source: McMahan et al., 2017, with any weights λᵢ.
    """
    return weighted_sum(site)
