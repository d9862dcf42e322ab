"""SVDiff."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext
from studio.layers.svd_basis import singular_columns
from studio.layers.target_modules import Role


class Svdiff(Adapter):
    """Shifts every singular value: W' = W + U diag(relu(S + δ) − S) Vᵀ.

    δ (min(out, in),) starts at 0. Trains min(out, in) parameters. Source: Han et al., 2023, "SVDiff", Eq. 3.
    """

    @dataclass(frozen=True)
    class Config:
        """SVDiff has no options."""

    config: Config
    learning_rates: ClassVar = {"unet": 2e-2, "text_encoder": 1e-2}
    u: Tensor
    s: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        # All columns: for other methods the base stores only as many as its narrowest layer has.
        columns = singular_columns(weight)
        for name, tensor in (("u", columns.u), ("s", columns.s), ("v", columns.v)):
            self.register_buffer(name, tensor, persistent=False)
        self.shift = nn.Parameter(torch.zeros_like(columns.s))
        self.to(weight.device)

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """The change that the shifted values make, (out, in); the strength scales the shift."""
        return (self.u * (F.relu(self.s + strength * self.shift) - self.s)) @ self.v.mT

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """min(out, in)."""
        return min(shape)

    @classmethod
    def sizes(cls, config: Config, narrowest: int, limit: int) -> Iterator[Config]:
        """SVDiff has one size."""
        yield config

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Every matrix fits."""
