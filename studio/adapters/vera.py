"""VeRA."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext, check_range
from studio.layers.low_rank import LowRank
from studio.layers.random_bases import uniform
from studio.layers.target_modules import Role


class Vera(Adapter):
    """Trained scaling vectors for frozen random matrices: W' = W + diag(b) B diag(d) A.

    A (r, in) and B (out, r) follow from the seed and are shared by all layers of one shape; b (out,) starts at 0
    and d (r,) at 0.1. Trains out + r parameters; the rank may exceed the sides of W. Source: Kopiczko et al.,
    2024, "VeRA", Eq. 2.
    """

    @dataclass(frozen=True)
    class Config:
        """The rank, and the seed of A and B."""

        rank: int = 1024
        seed: int = 0

    config: Config
    learning_rates: ClassVar = {"unet": 5e-3, "text_encoder": 2e-3}
    no_decay: ClassVar = frozenset({"d"})
    down: Tensor
    up: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        out_features, in_features = weight.shape
        seed, rank = config.seed, config.rank
        self.register_buffer("down", uniform(2 * seed, rank, in_features, weight.device), persistent=False)
        self.register_buffer("up", uniform(2 * seed + 1, out_features, rank, weight.device), persistent=False)
        self.b = nn.Parameter(torch.zeros(out_features, device=weight.device))
        self.d = nn.Parameter(torch.full((rank,), 0.1, device=weight.device))

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """diag(b) B and diag(d) A; the strength scales the delta."""
        return LowRank(up=(strength * self.b)[:, None] * self.up, down=self.d[:, None] * self.down)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """The parameters of b and d: out + r."""
        return shape[0] + config.rank

    @classmethod
    def sizes(cls, config: Config, narrowest: int, limit: int) -> Iterator[Config]:
        """Every rank, also above the matrix's sides."""
        return (replace(config, rank=rank) for rank in range(1, limit + 1))

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Any rank up to 65536 fits."""
        check_range("rank", config.rank, 1, 65536, name)
