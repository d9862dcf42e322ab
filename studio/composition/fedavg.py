"""Federated averaging: the weighted sum of what each concept changed."""

from torch import Tensor

from studio.composition.base import MergeSite, weighted_sum


def fedavg(site: MergeSite) -> Tensor:
    """Σ λᵢ Δᵢ (McMahan et al., 2017, with free weights): needs nothing of the concepts but their deltas (out,
    in).
    """
    return weighted_sum(site)
