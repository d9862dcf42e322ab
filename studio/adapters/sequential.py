"""Sequential adapters, applied to the layer's output: SeqLoRA, and Hydra, which adds a parallel LoRA."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext
from studio.adapters.lora import gaussian
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Role

DOWN_STD = 0.02
"""The standard deviation of the downs' initial values, as in the ELEVATER code that Hydra's authors build on."""


class SeqLora(Adapter):
    """Low-rank adaptation of the output: W' = W + B_up B_down W and b' = b + B_up B_down b.

    B_up (out, r) starts at 0 and B_down (r, out) at N(0, 0.02²). Trains 2 r out parameters. Source: Kim et al., 2023,
    "Hydra", Eq. 7.
    """

    @dataclass(frozen=True)
    class Config:
        """The rank."""

        rank: int = 8

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.sequential_down = gaussian(config.rank, weight.shape[0], DOWN_STD, context, "sequential_down")
        self.sequential_up = nn.Parameter(torch.zeros(weight.shape[0], config.rank))
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """B_up and B_down W; the strength scales the delta."""
        return LowRank(up=strength * self.sequential_up, down=self.sequential_down @ weight.float())

    def bias_delta(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> Tensor | None:
        """B_up B_down b, (out,)."""
        if bias is None:
            return None
        return (strength * self.sequential_up) @ (self.sequential_down @ bias.float())

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Adapts the frozen layer's output, so that W enters one product only."""
        output = F.linear(x, weight, bias)
        return output + self.after(output)

    def after(self, output: Tensor) -> Tensor:
        """The sequential branch's output, added to the frozen layer's output (…, out)."""
        hidden = F.linear(output, self.sequential_down.to(output.dtype))
        return F.linear(hidden, self.sequential_up.to(output.dtype))

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """2 r out."""
        return 2 * config.rank * shape[0]


class Hydra(SeqLora):
    """Parallel LoRA and sequential SeqLoRA: W' = W + B A + B_up B_down W and b' = b + B_up B_down b.

    Each branch has the rank r, so that LoRA with as many parameters has about twice the rank. A (r, in), B (out, r),
    B_up (out, r) and B_down (r, out); B and B_up start at 0, A and B_down at N(0, 0.02²). Trains r (in + out) + 2 r out
    parameters. Source: Kim et al., 2023, "Hydra", Eq. 9.
    """

    def __init__(self, weight: Tensor, config: SeqLora.Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.down = gaussian(config.rank, weight.shape[1], DOWN_STD, context, "down")
        self.up = nn.Parameter(torch.zeros(weight.shape[0], config.rank))
        self.to(weight.device)

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """Both branches concatenated, of rank 2r; the strength scales the delta."""
        sequential = super().factors(weight, strength)
        return LowRank(
            up=torch.cat([sequential.up, strength * self.up], 1), down=torch.cat([sequential.down, self.down])
        )

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Adapts the frozen layer's output, so that W enters one product only."""
        parallel = F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
        return super().forward(x, weight, bias) + parallel

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: SeqLora.Config, role: Role = "matrix") -> int:
        """r (in + out) + 2 r out."""
        return config.rank * (sum(shape) + 2 * shape[0])
