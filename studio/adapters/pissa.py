"""PiSSA."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext
from studio.layers.low_rank import LowRank
from studio.layers.svd_basis import singular_columns
from studio.layers.target_modules import Role


class Pissa(Adapter):
    """LoRA that starts from the principal singular vectors: W' = W + (B₀ + B) (A₀ + A) − B₀ A₀.

    B₀ = U_r √S_r (out, r) and A₀ = √S_r V_rᵀ (r, in) of the top r columns of W = U S Vᵀ, and the residual W − B₀ A₀ is
    frozen. Stored and trained are the changes B and A, which start at 0, so weight decay pulls towards W, not towards 0
    as in PEFT. Trains r (in + out) parameters. Source: Meng et al., 2024, "PiSSA", section 3.
    """

    @dataclass(frozen=True)
    class Config:
        """The number of top singular columns."""

        rank: int = 8

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}
    uses_columns: ClassVar = True
    start_up: Tensor
    start_down: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        kept = context.columns if context else None
        top = (kept or singular_columns(weight)).block(0, config.rank)
        root = top.s.sqrt()
        self.register_buffer("start_up", (top.u * root).to(weight.device), persistent=False)
        self.register_buffer("start_down", (top.v * root).mT.contiguous().to(weight.device), persistent=False)
        self.up = nn.Parameter(torch.zeros_like(self.start_up))
        self.down = nn.Parameter(torch.zeros_like(self.start_down))

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """B (A₀ + A) + B₀ A of rank 2r, exactly zero at the start; the strength scales B and A."""
        up, down = strength * self.up, strength * self.down
        return LowRank(up=torch.cat([up, self.start_up], 1), down=torch.cat([self.start_down + down, down]))

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """r (in + out)."""
        return config.rank * sum(shape)
