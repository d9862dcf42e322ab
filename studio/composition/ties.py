"""TIES: trim, elect signs, and average what agrees."""

import numpy as np
import torch
from torch import Tensor

from studio.composition.base import MergeSite, weighted_sum


def ties(site: MergeSite, density: float = 0.5) -> Tensor:
    """Trim, elect sign and disjoint merge of the λᵢ Δᵢ (out, in): keeps the fraction `density` of each change's entries
    that are largest in magnitude, elects the sign of each entry's sum, and averages the entries with that sign.

    Source: Yadav et al., 2023, "TIES-merging", section 3 and algorithm 1. Here each concept has its own λᵢ, which is
    applied before the sign election. The mean divides by the number of concepts, as in the paper and in PEFT; mergekit
    divides by the sum of their λᵢ, which cancels a common strength. The default density is that of PEFT's examples. A
    single concept is not trimmed.
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
    """The value at this index, from 0, of the sorted values (n,). NumPy selects 50 times faster than torch."""
    if values.device.type == "cpu":
        return float(np.partition(values.detach().numpy(), place)[place])
    return values.kthvalue(place + 1).values.item()
