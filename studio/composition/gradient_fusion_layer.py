"""Gradient fusion of one layer, in closed form: regularized least squares."""

from collections.abc import Sequence

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.composition.base import MergeSite, weighted_sum

RIDGE = 1e-4
"""Relative to the mean of the Gram matrix's diagonal; `benchmarks/composition.py` compares other values."""
_RANK_TOLERANCE = 1e-10


def gradient_fusion_delta(site: MergeSite, ridge: float = RIDGE) -> Tensor:
    """The change D (out, in) that minimises the difference to each concept's change on that concept's layer inputs Xᵢ:
    argmin Σᵢ |(λᵢ Δᵢ − D) Xᵢ|² + |D X₀|² + ρ |D|², which is D (Σᵢ Gᵢ + G₀ + ρ I) = Σᵢ λᵢ Δᵢ Gᵢ with Gᵢ = Xᵢ Xᵢᵀ.

    X₀ are the layer's inputs on prompts without a concept, for `gradient_fusion_preserving` alone, and ρ is `ridge`
    times the mean diagonal entry of the Gram matrices' sum. Source: Gu et al., 2023, "Mix-of-Show", Eq. 4, which uses
    L-BFGS and no X₀. A single concept is unchanged, and concepts without inputs at the layer are summed.
    """
    return _fused(site, ridge, "gradient_fusion")


def gradient_fusion_preserving(site: MergeSite, ridge: float = RIDGE) -> Tensor:
    """Gradient fusion in which the outputs for prompts that name no concept should not change: with X₀ of
    `gradient_fusion_delta`, which the whole model's merge then gives; not in the source.
    """
    return _fused(site, ridge, "gradient_fusion_preserving")


def _fused(site: MergeSite, ridge: float, method: str) -> Tensor:
    if len(site.adapters) == 1:
        return weighted_sum(site)
    grams = grams_of(site, method)
    return least_squares(site, grams, grams, ridge)


def grams_of(site: MergeSite, method: str) -> Sequence[Tensor]:
    """The concepts' Gram matrices (in, in). Raises StudioError where they were not recorded."""
    if site.grams is None:
        raise StudioError(
            f"{method} needs the Gram matrices of the layers' inputs. Use merged_deltas or MergeCache, "
            "which record them, or merge with fedavg."
        )
    return site.grams


def least_squares(site: MergeSite, grams: Sequence[Tensor], wanted: Sequence[Tensor], ridge: float) -> Tensor:
    """D (out, in) with D (Σᵢ Gᵢ + G₀ + ρ I) = Σᵢ λᵢ Δᵢ Hᵢ, for the concepts' Gram matrices Gᵢ and the matrices Hᵢ, all
    (in, in), of `wanted`; the sum of the concepts without inputs at the layer.
    """
    gram = torch.stack(list(grams)).sum(0)
    if not gram.any():
        return weighted_sum(site)
    if site.preserved is not None:
        gram = gram + site.preserved
    target = wanted_products(site, wanted)
    rho = ridge * gram.diagonal().mean()
    return ridge_solution(gram + rho * torch.eye(len(gram), device=gram.device), target)


def wanted_products(site: MergeSite, grams: Sequence[Tensor]) -> Tensor:
    """Σᵢ λᵢ Δᵢ Gᵢ (out, in) for a matrix Gᵢ (in, in) of each concept."""
    target = torch.zeros(site.weight.shape, device=grams[0].device)
    for low_rank, strength, adapter, own in zip(site.factors(), site.strengths, site.adapters, grams, strict=True):
        if low_rank is None:
            target.addmm_(adapter.delta(site.weight), own, alpha=strength)
        else:
            target.addmm_(low_rank.up, low_rank.down @ own)
    return target


def ridge_solution(matrix: Tensor, target: Tensor) -> Tensor:
    """D (out, in) with D M = T, for a symmetric M (in, in) without negative eigenvalues and T (out, in).

    By Cholesky decomposition in float32. Where that fails by rounding, or M is singular without a ridge, it is the
    minimum-norm solution, from the eigenvectors in float64.
    """
    lower, failed = torch.linalg.cholesky_ex(matrix)
    if not failed:
        return torch.cholesky_solve(target.mT, lower).mT
    values, vectors = torch.linalg.eigh(matrix.double())
    kept = values > _RANK_TOLERANCE * values[-1]
    vectors = vectors[:, kept]
    return (((target.double() @ vectors) / values[kept]) @ vectors.mT).float()
