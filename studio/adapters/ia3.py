"""IA3."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext
from studio.layers.target_modules import Role


class Ia3(Adapter):
    """Rescales keys, values and the feed-forward's inner activation: W' = diag(l) W and b' = l b, or W₂' = W₂ diag(l).

    On keys and values W' = diag(l) W and b' = l b with l (out,). In a feed-forward network W₂ φ(W₁ x), where φ includes
    the gate of a GEGLU block, W₂ (l ⊙ φ(W₁ x)): W₂' = W₂ diag(l) with l (in,), the inner width. l starts at 1. Trains
    out or in parameters. Source: Liu et al., 2022, "Few-shot parameter-efficient fine-tuning is better and cheaper than
    in-context learning", section 3.3.
    """

    @dataclass(frozen=True)
    class Config:
        """IA3 has no options."""

    config: Config
    learning_rates: ClassVar = {"unet": 1e-2, "text_encoder": 5e-3}
    no_decay: ClassVar = frozenset({"scale"})

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.of_input = context is not None and context.role == "branch_end"
        self.scale = nn.Parameter(torch.ones(weight.shape[1 if self.of_input else 0], device=weight.device))

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """diag(l − 1) W or W diag(l − 1), (out, in); the strength scales l − 1."""
        change = strength * (self.scale - 1)
        return (change if self.of_input else change[:, None]) * weight.float()

    def bias_delta(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> Tensor | None:
        """(l − 1) b, (out,), where the outputs are scaled."""
        return None if bias is None or self.of_input else strength * (self.scale - 1) * bias.float()

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Rescales the frozen layer's input or output."""
        if self.of_input:
            return F.linear(x * self.scale.to(x.dtype), weight, bias)
        output = F.linear(x, weight, bias)
        return output * self.scale.to(output.dtype)

    @classmethod
    def kinds(cls, config: Config) -> tuple[str, ...]:
        """Keys, values and the last layers of feed-forward networks."""
        return ("attention_kv", "feed_forward_out")

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """One parameter for each output, or for each input of a branch's last layer."""
        return shape[1] if role == "branch_end" else shape[0]

    @classmethod
    def sizes(cls, config: Config, narrowest: int, limit: int) -> Iterator[Config]:
        """IA3 has one size."""
        yield config

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Every matrix fits."""
