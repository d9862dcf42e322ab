"""DoRA."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext
from studio.adapters.lora import kaiming
from studio.layers.target_modules import Role


class Dora(Adapter):
    """Trains magnitude and direction separately: W' = m ⊙ (W + B A) / ‖W + B A‖, with the norm of each output row.

    A (r, in) is random, B (out, r) starts at 0 and m (out,) at ‖W‖. Trains r (in + out) + out parameters. Source: Liu
    et al., 2024, "DoRA", Eq. 5; as in its section 4.3, no gradient passes through the norm.
    """

    @dataclass(frozen=True)
    class Config:
        """The rank of B A."""

        rank: int = 8

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}
    ups: ClassVar = frozenset({"up"})
    no_decay: ClassVar = frozenset({"magnitude"})
    row_squares: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.register_buffer("row_squares", weight.detach().float().square().sum(1), persistent=False)
        self.magnitude = nn.Parameter(self.row_squares.sqrt())
        self.down = kaiming(config.rank, weight.shape[1], context)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], config.rank))
        self.to(weight.device)

    def gain(self, weight: Tensor) -> Tensor:
        """m / ‖W + B A‖, (out,), exactly 1 at the start; a row of zeros keeps its length."""
        with torch.no_grad():
            crossed = (weight.float() @ self.down.mT * self.up).sum(1)
            own = (self.up @ (self.down @ self.down.mT) * self.up).sum(1)
            norm = (self.row_squares + 2 * crossed + own).clamp(min=0).sqrt()
        return torch.where(norm > 0, self.magnitude / norm.clamp(min=1e-12), 1.0)

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """The change of the rescaled sum, (out, in); the strength scales the delta."""
        gain = self.gain(weight)[:, None]
        return strength * ((gain - 1) * weight.float() + gain * (self.up @ self.down))

    def terms(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> dict[str, Tensor]:
        """The factors and the magnitudes (out, 1); at another strength than 1, the difference."""
        if strength != 1:
            return super().terms(weight, bias, strength)
        return {"up": self.up, "down": self.down, "magnitude": self.magnitude[:, None]}

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The frozen output and the low-rank one, rescaled, without building W'."""
        gain = self.gain(weight).to(x.dtype)
        output = F.linear(x, weight, bias)
        product = output if bias is None else output - bias
        low_rank = F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
        return (output + (gain - 1) * product + gain * low_rank).to(output.dtype)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """r (in + out) + out."""
        return config.rank * sum(shape) + shape[0]
