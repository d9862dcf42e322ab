"""Compares an adapter's delta with the layer that it adapts."""

import math

import torch
from torch import Tensor

from studio.layers.low_rank import LowRank


def subspace_similarity(one: Tensor, other: Tensor) -> float:
    """φ = |U₁ᵀ U₂|² / min(i, j) for orthonormal columns U₁ (n, i) and U₂ (n, j): 0 orthogonal, 1 contained.

    Source: Kim et al., 2023, "Hydra", Eq. 14, after Hu et al., 2021, "LoRA", Eq. 4.
    """
    shared = ((one.mT @ other).square().sum() / min(one.shape[1], other.shape[1])).item()
    return min(1.0, shared)  # columns rounded to float32 may be slightly longer than 1


def pe_score(score: float, parameters: int, base_parameters: int) -> float:
    """A score discounted by the number of trained parameters: score · exp(−log₁₀(parameters / M₀ + 1)).

    M₀ is the number of the pretrained model's parameters: ELEVATER (Li et al., 2022, "ELEVATER", the appendix on
    metrics) sets 10⁸, the size of its vision backbones, and Kim et al., 2023, "Hydra", Eq. 13, use it as it is.
    """
    return score * math.exp(-math.log10(parameters / base_parameters + 1))


def left_directions(change: LowRank, count: int) -> Tensor:
    """The first left singular vectors of up @ down, orthonormal (out, k): at most `count`, without zero ones."""
    basis, triangle = torch.linalg.qr(change.up.detach().double())
    u, s, _ = torch.linalg.svd(triangle @ change.down.detach().double(), full_matrices=False)
    kept = int((s[:count] > 1e-6 * s[:1].clamp(min=1e-30)).sum())
    return basis @ u[:, :kept]


def similarity_to_base(columns: Tensor, change: LowRank, count: int) -> float | None:
    """The similarity of an adapter's output directions to the layer's first `count` ones (Eq. 14).

    `columns` (out, k) are the weight's left singular vectors. None for an adapter that changes nothing.
    """
    directions = left_directions(change, count)
    if not directions.shape[1]:
        return None
    return subspace_similarity(columns[:, :count].double(), directions.to(columns.device))
