"""Lightweight DreamBooth."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext, check_range
from studio.adapters.lora import kaiming
from studio.layers.low_rank import LowRank
from studio.layers.random_bases import orthogonal_rows
from studio.layers.target_modules import Role


class Lidb(Adapter):
    """LoRA within frozen random subspaces: W' = W + (A_aux A) (B B_aux).

    A_aux (out, a) and B_aux (b, in) follow from the seed and are orthonormal; A (a, r) starts at 0 and B (r, b) is
    random. Trains r (a + b) parameters, 150 r by default. Source: Ruiz et al., 2023, "HyperDreamBooth", section 3.2.
    """

    @dataclass(frozen=True)
    class Config:
        """The rank; the sizes of the subspaces, a and b, each at most the side of W; and their seed."""

        rank: int = 8
        out_size: int = 50
        in_size: int = 100
        seed: int = 0

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 1e-3}
    out_basis: Tensor
    in_basis: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        out_features, in_features = weight.shape
        out_size, in_size = _sizes(tuple(weight.shape), config)
        basis = orthogonal_rows(2 * config.seed, out_features, 0, out_size, weight.device)
        self.register_buffer("out_basis", basis.mT, persistent=False)
        basis = orthogonal_rows(2 * config.seed + 1, in_features, 0, in_size, weight.device)
        self.register_buffer("in_basis", basis, persistent=False)
        self.down = kaiming(config.rank, in_size, context)
        self.up = nn.Parameter(torch.zeros(out_size, config.rank))
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """A_aux A and B B_aux; the strength scales the delta."""
        return LowRank(up=self.out_basis @ (strength * self.up), down=self.down @ self.in_basis)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """r (a + b), with a and b at most the matrix's sides."""
        return config.rank * sum(_sizes(shape, config))

    @classmethod
    def sizes(cls, config: Config, narrowest: int, limit: int) -> Iterator[Config]:
        """Every rank at the given subspaces, and smaller subspaces, b = 2a as published, at rank 1."""
        yield from super().sizes(config, min(narrowest, config.out_size, config.in_size), limit)
        for size in range(1, config.out_size):
            yield replace(config, rank=1, out_size=size, in_size=2 * size)

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """The rank must fit into both subspaces."""
        for option, size in (("out_size", config.out_size), ("in_size", config.in_size)):
            check_range(option, size, 1, 65536, name)
        check_range("rank", config.rank, 1, min(_sizes(shape, config)), name)


def _sizes(shape: tuple[int, ...], config: Lidb.Config) -> tuple[int, int]:
    return min(shape[0], config.out_size), min(shape[1], config.in_size)
