"""Orthogonal fine-tuning by butterfly factors."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.errors import StudioError
from studio.adapters.base import Adapter, SiteContext
from studio.layers.rotations import cayley_change, skew, skew_size
from studio.layers.target_modules import Role


class Boft(Adapter):
    """Rotates the input by butterfly factors: W' = W B₁ B₂ … B_m, Bᵢ = Pᵢᵀ blockdiag(Q, …, Q) Pᵢ, Q = Cayley(skew).

    Each factor has in / b blocks of size b with rotations of their own. The permutation Pᵢ brings together features
    that are 2^(i−1) b / 2 apart, so m = log₂(2 in / b) factors connect every feature with every other. The skew
    matrices start at 0. Trains m in (b − 1) / 2 parameters. Source: Liu et al., 2024, "Parameter-efficient orthogonal
    finetuning via butterfly factorization", section 4, without its scale of the rows.
    """

    @dataclass(frozen=True)
    class Config:
        """The size b of the blocks, which is even, and the number m of butterfly factors; 2^(m−1) b must divide in."""

        block_size: int = 8
        num_factors: int = 2

    config: Config
    learning_rates: ClassVar = {"unet": 1e-3, "text_encoder": 2e-4}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        size = config.block_size
        shape = (config.num_factors, weight.shape[1] // size, skew_size(size))
        self.skew = nn.Parameter(torch.zeros(*shape, device=weight.device))

    def rotation_changes(self, strength: float = 1.0) -> Tensor:
        """Q − I of every block, (m, in / b, b, b); the strength scales the skew matrices."""
        return cayley_change(skew(strength * self.skew, self.config.block_size))

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """W B₁ … B_m − W, (out, in)."""
        rows = weight.float()
        for index, change in enumerate(self.rotation_changes(strength)):
            rows = self._times_factor(rows, index, change)
        return rows - weight.float()

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Rotates the input instead of the weight, x B_mᵀ … B₁ᵀ, so that there is one dense product."""
        changes = self.rotation_changes().mT.to(x.dtype)
        for index in reversed(range(self.config.num_factors)):
            x = self._times_factor(x, index, changes[index])
        return F.linear(x, weight, bias)

    def _times_factor(self, rows: Tensor, index: int, change: Tensor) -> Tensor:
        """Rows (…, in) times the factor of this index, whose blocks are I + `change` (in / b, b, b)."""
        half, apart = self.config.block_size // 2, 2**index
        # (…, in / 2 apart half, apart, 2, half): a block is half of its features and those apart · half further on
        pairs = rows.unflatten(-1, (-1, 2, apart, half)).transpose(-3, -2)
        blocks = pairs.flatten(-2).flatten(-3, -2)
        turned = torch.einsum("...kb,kbc->...kc", blocks, change)
        turned = turned.unflatten(-1, (2, half)).unflatten(-3, (-1, apart))
        return rows + turned.transpose(-3, -2).flatten(-4)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """m in (b − 1) / 2."""
        return config.num_factors * (shape[1] // config.block_size) * skew_size(config.block_size)

    @classmethod
    def sizes(cls, config: Config, narrowest: int, limit: int) -> Iterator[Config]:
        """Every even block size, with every number of factors."""
        for size in range(2, narrowest + 1, 2):
            yield from (replace(config, block_size=size, num_factors=count) for count in range(1, 9))

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """2^(m−1) b must divide `in`, and b be even."""
        size, count = config.block_size, config.num_factors
        if size < 2 or size % 2 or count < 1 or shape[1] % (size * 2 ** (count - 1)):
            site = f" at {name}" if name else ""
            raise StudioError(
                f"block_size {size} with num_factors {count} is impossible{site}. Choose an even block_size and "
                f"num_factors of 1 or more so that block_size times 2^(num_factors - 1) divides {shape[1]}."
            )
