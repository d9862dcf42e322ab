"""AdaLink."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext
from studio.adapters.lora import kaiming
from studio.layers.low_rank import LowRank
from studio.layers.sites import Role


class AdaLink(Adapter):
    """Adapts the text embeddings and no layer: E' = E + E W_down W_up.

    W_down (d, r) is random and W_up (r, d) starts at 0. Trains 2 d r numbers. Source: Wang et al., 2023, "Non-intrusive
    adaptation: input-centric parameter-efficient fine-tuning", Eq. 1 and 2 without the non-linearity. Its site is the
    identity (d, d) behind the embeddings, W' = I + (W_down W_up)ᵀ, which a vocabulary E (words, d) takes up as E W'ᵀ.
    """

    @dataclass(frozen=True)
    class Config:
        """Options: the rank, and which embeddings: those that enter the text encoder ("input") or those that it
        hands to the UNet ("output").
        """

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
        """Embeddings (…, d) to adapted ones; the identity needs no product."""
        return x + F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))

    @classmethod
    def kinds(cls, config: Config) -> tuple[str, ...]:
        """The embeddings before or behind the text encoder."""
        return ("vocabulary" if config.position == "input" else "text_output",)

    @classmethod
    def number_trained(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """2 d r."""
        return config.rank * sum(shape)
