"""Base class of the adapters that train a concept's own singular columns.

Singular column i of a weight W = U S Vᵀ is its i-th singular triplet: column i of U, singular value i, column i of V.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext, check_columns, check_range
from studio.layers.svd_basis import SingularColumns, singular_columns


class OwnColumns(Adapter):
    """Keeps the concept's own r singular columns [first_column, first_column + r) of W = U S Vᵀ, which stay frozen.

    They are U₁ (out, r), S₁ (r,) and V₁ (in, r). Each method changes U₁ and V₁ in its own way; with `train_scale`,
    S₁ becomes S₁ (1 + s), as in SVDiff, with s (r,) trained from zero.
    """

    @dataclass(frozen=True)
    class Config:
        """The number of singular columns, the index of the first, and whether a scale of each is trained too."""

        rank: int = 8
        first_column: int = 0
        train_scale: bool = False

    config: Config
    uses_columns: ClassVar = True
    owns_block: ClassVar = True
    u: Tensor
    s: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        kept = context.columns if context else None
        own = (kept or singular_columns(weight)).block(config.first_column, config.rank)
        for name, tensor in (("u", own.u), ("s", own.s), ("v", own.v)):
            self.register_buffer(name, tensor.to(weight.device), persistent=False)
        # A relative change starts at zero, so weight decay may apply to it.
        self.change_s = nn.Parameter(torch.zeros_like(self.s)) if config.train_scale else None

    @property
    def columns(self) -> SingularColumns:
        """The concept's own frozen columns of the base."""
        return SingularColumns(self.u, self.s, self.v)

    @classmethod
    def least_rank(cls, config: Config) -> int:
        """The smallest rank with something to train."""
        return 1

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Besides the rank, the columns must exist."""
        check_range("rank", config.rank, cls.least_rank(config), min(shape), name)
        check_columns(shape, config, name)
