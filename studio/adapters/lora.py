"""LoRA."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Role


class Lora(Adapter):
    """Low-rank adaptation: W' = W + (alpha / r) B A, with B (out, r) and A (r, in).

    With `rank_stabilized` the scale is alpha / √r (Kalajdzievski, 2023, "rsLoRA", theorem 3.2). Trains r (in + out)
    parameters. Source: Hu et al., 2021, "LoRA", Eq. 3.
    """

    @dataclass(frozen=True)
    class Config:
        """The rank; alpha, which scales the product by alpha / rank, None means alpha = rank; and whether the scale is
        alpha / √rank instead.
        """

        rank: int = 8
        alpha: float | None = None
        rank_stabilized: bool = False

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}
    ups: ClassVar = frozenset({"up"})

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        out_features, in_features = weight.shape
        self.down = kaiming(config.rank, in_features, context)
        self.up = nn.Parameter(torch.zeros(out_features, config.rank))
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """The two trained factors; the strength scales the delta."""
        scale = alpha_scale(self.config, self.config.rank_stabilized)
        return LowRank(up=self.up * (strength * scale), down=self.down)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """r (in + out)."""
        return config.rank * sum(shape)


def alpha_scale(config: Any, rank_stabilized: bool = False) -> float:
    """alpha / rank, or alpha / √rank, of a configuration; alpha None means the rank."""
    alpha = config.rank if config.alpha is None else config.alpha
    return alpha / (math.sqrt(config.rank) if rank_stabilized else config.rank)


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
