"""What an adapter did to one layer's weight, in terms of the weight's singular value decomposition."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.sequential import Hydra
from studio.adapters.spectral_rotational import SpectralRotational
from studio.layers.low_rank import LowRank, truncated
from studio.metrics.subspace_similarity import similarity_to_base

DIRECTIONS = (1, 2, 4, 8, 16)
"""How many of the leading directions of weight and change are compared."""
ALIGNED = 32
"""How many of the top singular vectors are compared one by one."""
_ZERO = 1e-5
"""Singular values below this fraction of the largest one are rounding errors of float32."""


@dataclass(frozen=True)
class WeightAnalysis:
    """One layer, with its change Δ (out, in) of the weight W = U S Vᵀ.

    `similarity` is Hydra's subspace similarity φ of Δ and W by number of directions, that of each branch of a method
    with several in `branches`. `shares` are the parts of |Δ|² in the top, middle and bottom third of U's columns, which
    miss a part if out > in. `rank` is the attained rank of Δ, `size` is |Δ| / |W|, and `spectrum` the largest change of
    a singular value, relative to the largest one. `magnitude` and `direction` are DoRA's (`magnitude_and_direction`).
    """

    similarity: tuple[float | None, ...]
    branches: dict[str, tuple[float | None, ...]]
    shares: tuple[float, float, float]
    rank: int
    size: float
    spectrum: float
    magnitude: float
    direction: float


@torch.no_grad()
def analyse_weight(weight: Tensor, adapter: Adapter) -> WeightAnalysis | None:
    """The analysis of an adapted weight (out, in); None where the adapter changes nothing of it."""
    frozen, delta = weight.float(), adapter.delta(weight)
    if not delta.any():
        return None
    u, s, _ = torch.linalg.svd(frozen, full_matrices=False)
    change = truncated(delta, min(weight.shape))
    after, own = torch.linalg.svdvals(frozen + delta), torch.linalg.svdvals(delta)
    magnitude, direction = magnitude_and_direction(frozen, delta)
    return WeightAnalysis(
        similarity=_similarities(u, change),
        branches={name: _similarities(u, branch) for name, branch in branches_of(adapter, weight).items()},
        shares=shares_of(u, delta),
        rank=int((own > _ZERO * own[0]).sum()),
        size=float(delta.norm() / frozen.norm()),
        spectrum=float((after - s).abs().max() / s[0]),
        magnitude=magnitude,
        direction=direction,
    )


@torch.no_grad()
def magnitude_and_direction(weight: Tensor, delta: Tensor) -> tuple[float, float]:
    """How a change Δ (out, in) changes the rows w of a weight: the mean of | ‖w'‖ − ‖w‖ |, and that of 1 − cos(w', w).

    Source: Liu et al., 2024, "DoRA", Eq. 3 and 4, of output rows as in PEFT. Of a matrix with one row the magnitude is
    its singular value and the direction its singular vector.
    """
    after = weight + delta
    cosines = torch.nn.functional.cosine_similarity(after, weight, dim=1)
    return float((after.norm(dim=1) - weight.norm(dim=1)).abs().mean()), float((1 - cosines).mean())


def _similarities(u: Tensor, change: LowRank) -> tuple[float | None, ...]:
    return tuple(similarity_to_base(u, change, n) if n <= u.shape[1] else None for n in DIRECTIONS)


def branches_of(adapter: Adapter, weight: Tensor) -> dict[str, LowRank]:
    """The changes of Hydra's two branches by name (Kim et al., 2023, section 4.4); empty for any other method."""
    if not isinstance(adapter, Hydra):
        return {}
    sequential = LowRank(adapter.sequential_up, adapter.sequential_down @ weight.float())
    return {"parallel": LowRank(adapter.up, adapter.down), "sequential": sequential}


def shares_of(u: Tensor, delta: Tensor) -> tuple[float, float, float]:
    """The parts of |Δ|² in the top, middle and bottom third of the columns of U (out, k), after the analysis of
    Bałazy et al., 2024, "LoRA-XS", appendix.
    """
    energy = (u.mT @ delta).square().sum(1) / delta.square().sum()
    third = len(energy) // 3
    top, bottom = energy[:third].sum(), energy[len(energy) - third :].sum()
    return float(top), float(energy.sum() - top - bottom), float(bottom)


@torch.no_grad()
def alignment(weight: Tensor, adapter: Adapter, count: int = ALIGNED) -> Tensor:
    """|uᵢ'ᵀ uⱼ| (n, n) of the top left singular vectors of the adapted weight, uᵢ', and of W, uⱼ.

    Source: Zhang and Pilanci, 2024, "Spectral Adapter", Figure 3.
    """
    frozen = weight.float()
    before = torch.linalg.svd(frozen, full_matrices=False).U[:, :count]
    after = torch.linalg.svd(frozen + adapter.delta(weight), full_matrices=False).U[:, :count]
    return (after.mT @ before).abs()


@torch.no_grad()
def rotation_drift(adapters: Sequence[Adapter], weight: Tensor) -> Iterator[tuple[float, float]]:
    """After each rotation of a chain, how far the rotated columns are from orthonormal, max |UᵀU − I| over both sides,
    and how far the singular values moved, relative to the largest one.

    Each rotation continues from the columns that the one before left (Zhang and Pilanci, 2024, Lemma 4.1: they stay
    orthonormal, so that no new SVD is needed). The columns are computed in float32. Raises StudioError for a method
    that does not rotate, and for columns other than top ones or a trained scale.
    """
    u, s, vt = torch.linalg.svd(weight.float(), full_matrices=False)
    u, v = u.clone(), vt.mT.clone()
    identity = torch.eye(u.shape[1], device=u.device)
    for adapter in adapters:
        if not isinstance(adapter, SpectralRotational):
            raise StudioError("Only concepts of spectral_rotational make a chain of rotations. Give one name instead.")
        if adapter.config.columns not in ("top", "sampled") or adapter.config.train_scale:
            raise StudioError("A chain of rotations is of top singular columns without a trained scale.")
        block = torch.tensor(adapter.config.used)
        change_u, change_v = adapter.rotation_change().unbind()
        u[:, block] += u[:, block] @ change_u
        v[:, block] += v[:, block] @ change_v
        drift = max(float((side.mT @ side - identity).abs().max()) for side in (u, v))
        yield drift, float((torch.linalg.svdvals(u * s @ v.mT) - s).abs().max() / s[0])
