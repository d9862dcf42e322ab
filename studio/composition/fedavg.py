"""Federated averaging: the weighted sum of what each concept changed."""

from functools import reduce

import torch
from torch import Tensor

from studio.composition.base import MergeSite


def fedavg(site: MergeSite) -> Tensor:
    """Σ λᵢ Δᵢ (McMahan et al., 2017, with free weights): needs nothing of the concepts but their deltas (out,
    in).
    """
    return reduce(torch.add, (strength * delta for strength, delta in site.parts()))
