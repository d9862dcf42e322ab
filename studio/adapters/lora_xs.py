"""LoRA-XS."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.adapters.base import Adapter, SiteContext
from studio.adapters.lora import alpha_scale, gaussian
from studio.layers.low_rank import LowRank
from studio.layers.random_bases import gaussian_columns, orthogonal_rows
from studio.layers.svd_basis import SingularColumns, singular_columns
from studio.layers.target_modules import Role

Basis = Literal["top", "bottom", "random_orthogonal", "random_svd"]
STD = 1e-5
"""The standard deviation of R's initial values, of section 3."""


class LoraXs(Adapter):
    """A small matrix between frozen singular vectors: W' = W + (α / r) U_r R S_r V_rᵀ.

    In the paper's notation, for inputs as rows, x W + x A R B with A = U_r S_r of W: there A reads the input, so in
    (out, in) form S stands beside V. R (r, r) starts at N(0, 1e-5²). Trains r² parameters. Source: Bałazy et al., 2024,
    "LoRA-XS", section 3; the other bases are its ablations (appendix): the weight's bottom singular vectors, random
    orthonormal vectors, and the SVD of a random matrix, each with or without S.
    """

    @dataclass(frozen=True)
    class Config:
        """Options: the rank; `alpha` scales by alpha / rank, None means 1; the basis; whether S is part of it, which
        random orthonormal vectors lack; and the seed of a random basis.
        """

        rank: int = 16
        alpha: float | None = None
        basis: Basis = "top"
        singular_values: bool = True
        seed: int = 0

    config: Config
    learning_rates: ClassVar = {"unet": 1e-2, "text_encoder": 2e-3}
    uses_columns: ClassVar = True
    up: Tensor
    down: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        frozen = _basis(weight, config, context.columns if context else None)
        scaled = frozen.v * frozen.s if config.singular_values else frozen.v
        self.register_buffer("up", frozen.u, persistent=False)
        self.register_buffer("down", scaled.mT.contiguous(), persistent=False)
        self.core = gaussian(config.rank, config.rank, STD, context, "")
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """U_r R and S_r V_rᵀ; the strength scales the delta."""
        return LowRank(up=self.up @ (strength * alpha_scale(self.config) * self.core), down=self.down)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """The parameters of R: r²."""
        return config.rank**2

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Besides the rank, the basis must exist."""
        super().check(shape, config, name)
        if config.basis not in get_args(Basis):
            raise StudioError(f"Choose a basis from {', '.join(get_args(Basis))}: {config.basis!r} is none of them.")


def _basis(weight: Tensor, config: LoraXs.Config, kept: SingularColumns | None) -> SingularColumns:
    """The frozen U_r (out, r), S_r (r,) and V_r (in, r). Random ones depend on the seed and the weight's shape."""
    out_features, in_features = weight.shape
    rank, seed, device = config.rank, config.seed, weight.device
    if config.basis == "top":
        return (kept or singular_columns(weight)).block(0, rank)
    if config.basis == "bottom":
        return singular_columns(weight).block(min(weight.shape) - rank, rank)
    if config.basis == "random_orthogonal":
        u = orthogonal_rows(2 * seed, out_features, 0, rank, device).mT
        v = orthogonal_rows(2 * seed + 1, in_features, 0, rank, device).mT
        return SingularColumns(u, torch.ones(rank, device=device), v)
    return gaussian_columns(seed, out_features, in_features, rank)
