"""Federated averaging: the weighted sum of the concepts' deltas."""

from torch import Tensor

from studio.composition.base import MergeSite, weighted_sum


def fedavg(site: MergeSite) -> Tensor:
    """Σ λᵢ Δᵢ (out, in) (McMahan et al., 2017, with any weights λᵢ)."""
    return weighted_sum(site)
