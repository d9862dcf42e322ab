"""LoRA."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext
from studio.layers.low_rank import LowRank
from studio.layers.sites import Role


class Lora(Adapter):
    """Low-rank adaptation: W' = W + (alpha / r) B A, with B (out, r) and A (r, in).

    Trains r (in + out) parameters. Source: Hu et al., 2021, "LoRA", Eq. 3.
    """

    @dataclass(frozen=True)
    class Config:
        """The rank, and alpha, which scales the product by alpha / rank; None means alpha = rank."""

        rank: int = 8
        alpha: float | None = None

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        out_features, in_features = weight.shape
        self.down = kaiming(config.rank, in_features, context)
        self.up = nn.Parameter(torch.zeros(out_features, config.rank))
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """The two trained factors; the strength scales the delta."""
        alpha = self.config.rank if self.config.alpha is None else self.config.alpha
        return LowRank(up=self.up * (strength * alpha / self.config.rank), down=self.down)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """r (in + out)."""
        return config.rank * sum(shape)


def gaussian(rows: int, columns: int, std: float, context: SiteContext | None, name: str) -> nn.Parameter:
    """A trained matrix (rows, columns) of N(0, std²), drawn for the site's tensor of this name."""
    matrix = nn.Parameter(torch.empty(rows, columns))
    nn.init.normal_(matrix, std=std, generator=context.generator(name) if context else None)
    return matrix


def kaiming(rows: int, columns: int, context: SiteContext | None, name: str = "") -> nn.Parameter:
    """A trained matrix (rows, columns), initialized like a Linear's weight: uniform up to 1 / sqrt(columns).

    Several of one adapter need names of their own, so that they are independent.
    """
    matrix = nn.Parameter(torch.empty(rows, columns))
    nn.init.kaiming_uniform_(matrix, a=math.sqrt(5), generator=context.generator(name) if context else None)
    return matrix
