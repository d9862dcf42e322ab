"""Adapters that train biases, norms and the scales of branches instead of matrices."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext, added
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Role


class BitFit(Adapter):
    """Trains biases: b' = b + change, with W as it is, on every layer that has a bias.

    The change (out,) starts at 0. Trains out parameters. Source: Ben Zaken et al., 2022, "BitFit".
    """

    @dataclass(frozen=True)
    class Config:
        """These adapters have no options."""

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 1e-3}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.change_bias = nn.Parameter(torch.zeros(weight.shape[0], device=weight.device))

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank | None:
        """Nothing: a product of rank 0."""
        return LowRank(self.change_bias.new_zeros(weight.shape[0], 0), self.change_bias.new_zeros(0, weight.shape[1]))

    def bias_delta(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> Tensor | None:
        """The change, (out,)."""
        return strength * self.change_bias

    @classmethod
    def kinds(cls, config: Config) -> tuple[str, ...]:
        """Every layer that has a bias."""
        return ("bias",)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """One parameter for each output."""
        return shape[0]

    @classmethod
    def sizes(cls, config: Any, narrowest: int, limit: int) -> Iterator[Any]:
        """These methods have one size."""
        yield config

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Any, name: str = "") -> None:
        """Every layer fits."""


class NormTuning(BitFit):
    """Trains layer and group norms: weight and bias, each plus a change (features,) that starts at 0.

    Trains 2 parameters for each feature. Source: Zhao et al., 2024, "Tuning LayerNorm in attention".
    """

    def __init__(self, weight: Tensor, config: BitFit.Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.change_weight = nn.Parameter(torch.zeros(weight.shape[0], device=weight.device))

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """The change of the norm's weights as (features, 1) @ (1, 1)."""
        return LowRank(strength * self.change_weight[:, None], self.change_weight.new_ones(1, weight.shape[1]))

    @classmethod
    def kinds(cls, config: BitFit.Config) -> tuple[str, ...]:
        """Layer and group norms."""
        return ("norm",)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: BitFit.Config, role: Role = "matrix") -> int:
        """A weight and a bias for each feature."""
        return 2 * shape[0]


class DiffFit(BitFit):
    """Trains biases, norms, and a scale of every attention and feed-forward branch: W' = γ W and b' = γ (b + change).

    γ, of a branch's last layer, is 1 at the start; the weights of norms have a change too. Trains out parameters
    per layer, twice as many for a norm and one more for a branch. Source: Xie et al., 2023, "DiffFit", section 3.2.
    """

    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 1e-3}
    no_decay: ClassVar = frozenset({"scale"})

    def __init__(self, weight: Tensor, config: BitFit.Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        role = context.role if context else "matrix"
        self.change_weight = nn.Parameter(torch.zeros(weight.shape[0])) if role == "norm" else None
        self.scale = nn.Parameter(torch.ones(1)) if role == "branch_end" else None
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank | None:
        """The change of a norm's weights, or nothing; None for a scaled branch."""
        if self.scale is not None:
            return None
        if self.change_weight is None:
            return super().factors(weight, strength)
        return LowRank(strength * self.change_weight[:, None], self.change_weight.new_ones(1, weight.shape[1]))

    def _gain(self, strength: float) -> Tensor | float:
        return 1.0 if self.scale is None else 1 + strength * (self.scale - 1)

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """(γ − 1) W of a branch, (out, in), else the product of `factors`; the strength scales γ − 1."""
        if self.scale is None:
            return super().delta(weight, strength)
        return (self._gain(strength) - 1) * weight.float()

    def bias_delta(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> Tensor:
        """γ (b + change) − b, (out,)."""
        change = self._gain(strength) * strength * self.change_bias
        return change if bias is None else change + (self._gain(strength) - 1) * bias.float()

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Rescales the layer's output."""
        if self.scale is None:
            return super().forward(x, weight, bias)
        output = F.linear(x, weight, added(bias, self.change_bias, weight.dtype))
        return output * self.scale.to(output.dtype)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: BitFit.Config, role: Role = "matrix") -> int:
        """A bias for each output, a weight for each feature of a norm, and one scale for a branch."""
        return shape[0] * (2 if role == "norm" else 1) + (role == "branch_end")
