"""AdaLink."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext
from studio.adapters.lora import kaiming
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Role


class AdaLink(Adapter):
    """Adapts the text embeddings and no layer: E' = E + E W_down W_up.

    W_down (d, r) is random and W_up (r, d) starts at 0. Trains 2 d r parameters. Source: Wang et al., 2023,
    "Non-intrusive adaptation: input-centric parameter-efficient fine-tuning", Eq. 1 and 2 without the non-linearity.
    As an adapted layer it is the identity (d, d) after the embeddings: W' = I + (W_down W_up)ᵀ, and the embeddings E
    (tokens, d) become E W'ᵀ.
    """

    @dataclass(frozen=True)
    class Config:
        """The rank, and which embeddings are adapted: the text encoder's input or its output."""

        rank: int = 8
        position: Literal["input", "output"] = "input"

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 2e-3}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.down = kaiming(config.rank, weight.shape[1], context)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], config.rank))
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """W_upᵀ and W_downᵀ; the strength scales the delta."""
        return LowRank(up=strength * self.up, down=self.down)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Embeddings (…, d) to adapted ones; the identity is not multiplied."""
        return x + F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))

    @classmethod
    def kinds(cls, config: Config) -> tuple[str, ...]:
        """The embeddings before or after the text encoder."""
        return ("vocabulary" if config.position == "input" else "text_output",)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """2 d r."""
        return config.rank * sum(shape)
