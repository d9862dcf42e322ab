"""TIES: trim, elect signs, and average what agrees."""

import numpy as np
import torch
from torch import Tensor

from studio.composition.base import MergeSite, weighted_sum


def ties(site: MergeSite, density: float = 0.5) -> Tensor:
    """The disjoint mean of the λᵢ Δᵢ (out, in): entry by entry, the sum of those whose sign is that of the sum of all,
    divided by how many they are, after all but the largest `density` of each delta's entries became zero.

    Source: Yadav et al., 2023, "TIES-merging", section 3 and algorithm 1, whose one λ is here one for each concept and
    acts before the signs are elected. The divisor counts concepts, as there and in PEFT; mergekit's is the sum of their
    λᵢ, which undoes a strength that all have. The density is the one of PEFT's examples; a single concept has nothing
    to disagree with and is left whole.
    """
    if len(site.adapters) == 1:
        return weighted_sum(site)
    trimmed = [strength * trim(delta, density) for strength, delta in site.parts()]
    elected = torch.stack(trimmed).sum(0).sign_()
    total, count = torch.zeros_like(elected), torch.zeros_like(elected)
    for part in trimmed:
        agrees = (part * elected) > 0
        total += part * agrees
        count += agrees
    return total / count.clamp_(min=1)


def trim(delta: Tensor, density: float) -> Tensor:
    """The entries of largest magnitude, this share of them all, rounded down but at least one; zero elsewhere.

    Entries as large as the smallest one kept are kept too.
    """
    dropped = delta.numel() - max(1, int(density * delta.numel()))
    if dropped <= 0:
        return delta
    magnitude = delta.abs()
    return delta * (magnitude >= _order_statistic(magnitude.flatten(), dropped))


def _order_statistic(values: Tensor, place: int) -> float:
    """What stands at this place, from 0, when values (n,) are sorted. NumPy selects 50 times faster than torch."""
    if values.device.type == "cpu":
        return float(np.partition(values.detach().numpy(), place)[place])
    return values.kthvalue(place + 1).values.item()
