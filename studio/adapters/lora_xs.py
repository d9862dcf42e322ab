"""LoRA-XS."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext
from studio.layers.low_rank import LowRank
from studio.layers.sites import Role
from studio.layers.svd_basis import singular_columns


class LoraXs(Adapter):
    """A small matrix between the top singular vectors: W' = W + U_r S_r R V_rᵀ.

    R (r, r) starts at N(0, 1e-5²). Trains r² parameters. Source: Bałazy et al., 2024, "LoRA-XS".
    """

    @dataclass(frozen=True)
    class Config:
        """The number of top singular vectors."""

        rank: int = 16

    config: Config
    learning_rates: ClassVar = {"unet": 1e-2, "text_encoder": 2e-3}
    uses_columns: ClassVar = True
    up: Tensor
    down: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        kept = context.columns if context else None
        top = (kept or singular_columns(weight)).block(0, config.rank)
        self.register_buffer("up", top.u * top.s, persistent=False)
        self.register_buffer("down", top.v.mT.contiguous(), persistent=False)
        self.core = nn.Parameter(torch.empty(config.rank, config.rank))
        nn.init.normal_(self.core, std=1e-5, generator=context.generator() if context else None)
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """U_r S_r R and V_rᵀ; the strength scales the delta."""
        return LowRank(up=self.up @ (strength * self.core), down=self.down)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """The parameters of R: r²."""
        return config.rank**2
