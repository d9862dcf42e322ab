"""Orthogonal adaptation."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext, check_columns
from studio.layers.low_rank import LowRank
from studio.layers.random_bases import orthogonal_rows
from studio.layers.target_modules import Role


class Orthogonal(Adapter):
    """LoRA whose A is frozen to the concept's own rows of an orthogonal basis: W' = W + B A.

    A (r, in) is rows [first_column, first_column + r) of an orthogonal matrix that follows from the seed and `in`;
    every concept gets other rows, so that the concepts' input directions are orthogonal. B (out, r) starts at 0. Trains
    r out parameters. Source: Po et al., 2024, "Orthogonal adaptation for modular customization".
    """

    @dataclass(frozen=True)
    class Config:
        """The number of rows, the index of the first, and the basis's seed, which concepts to be merged must share."""

        rank: int = 8
        first_column: int = 0
        seed: int = 0

    config: Config
    learning_rates: ClassVar = {"unet": 1e-3, "text_encoder": 2e-4}
    owns_block: ClassVar = True
    down: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        rows = orthogonal_rows(config.seed, weight.shape[1], config.first_column, config.rank, weight.device)
        self.register_buffer("down", rows, persistent=False)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], config.rank, device=weight.device))

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """B and A; the strength scales the delta."""
        return LowRank(up=strength * self.up, down=self.down)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """The parameters of B: r out."""
        return config.rank * shape[0]

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Besides the rank, the rows must exist."""
        super().check(shape, config, name)
        check_columns(shape, config, name)
