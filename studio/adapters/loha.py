"""LoHa."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext
from studio.adapters.lora import alpha_scale, gaussian
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Role


class Loha(Adapter):
    """A Hadamard product of two low-rank products: W' = W + (α / r) (B₁ A₁) ⊙ (B₂ A₂).

    B₁, B₂ (out, r) and A₁, A₂ (r, in); B₂ starts at 0, B₁ at N(0, 0.1²), A₁ and A₂ at N(0, 1), as in LyCORIS and PEFT.
    Its rank is up to r². Trains 2 r (in + out) parameters. Source: Hyeon-Woo et al., 2022, "FedPara", proposition 1;
    Yeh et al., 2024, "LyCORIS".
    """

    @dataclass(frozen=True)
    class Config:
        """The rank of each product; `alpha` scales by alpha / rank, and None means 1."""

        rank: int = 4
        alpha: float | None = None

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}
    ups: ClassVar = frozenset({"up_1", "up_2"})

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        out_features, in_features = weight.shape
        self.up_1 = gaussian(out_features, config.rank, 0.1, context, "up_1")
        self.down_1 = gaussian(config.rank, in_features, 1.0, context, "down_1")
        self.up_2 = nn.Parameter(torch.zeros(out_features, config.rank))
        self.down_2 = gaussian(config.rank, in_features, 1.0, context, "down_2")
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank | None:
        """The product as factors of rank r², where that is below the matrix's rank: their columns are all products of a
        column of B₁ and one of B₂, their rows those of A₁ and A₂.
        """
        if self.config.rank**2 >= min(weight.shape):
            return None
        up = (self.up_1[:, :, None] * (strength * alpha_scale(self.config) * self.up_2)[:, None]).flatten(1)
        return LowRank(up=up, down=(self.down_1[:, None] * self.down_2[None]).flatten(0, 1))

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """The scaled product, (out, in); the strength scales it."""
        scaled = strength * alpha_scale(self.config) * self.up_2
        return (self.up_1 @ self.down_1) * (scaled @ self.down_2)

    def terms(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> dict[str, Tensor]:
        """The two products' factors, the first scaled."""
        scaled = strength * alpha_scale(self.config) * self.up_1
        return {"first_up": scaled, "first_down": self.down_1, "second_up": self.up_2, "second_down": self.down_2}

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """2 r (in + out)."""
        return 2 * config.rank * sum(shape)
