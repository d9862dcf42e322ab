"""The sum of changes that were brought to one magnitude."""

from math import exp, log

import torch
from torch import Tensor

from studio.composition.base import MergeSite, weighted_sum


def magnitude(site: MergeSite) -> Tensor:
    """Σ λᵢ (m / |Δᵢ|) Δᵢ (out, in), with the Frobenius norm and m its geometric mean over the concepts that change the
    layer: a concept that was trained longer or at a higher rate does not outweigh the others.

    Not in a paper. Concepts without a change at the layer count nothing; a single concept is unchanged.
    """
    parts = [(strength, delta) for strength, delta in site.parts() if delta.any()]
    if len(parts) < 2:
        return weighted_sum(site)
    norms = [float(delta.norm()) for _, delta in parts]
    mean = exp(sum(map(log, norms)) / len(norms))
    total = torch.zeros(site.weight.shape, device=site.weight.device)
    for (strength, delta), norm in zip(parts, norms, strict=True):
        total.add_(delta, alpha=strength * mean / norm)
    return total
