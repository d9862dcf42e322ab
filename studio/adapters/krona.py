"""KronA."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext, check_range
from studio.adapters.lora import kaiming
from studio.layers.target_modules import Role


class Krona(Adapter):
    """A Kronecker product: W' = W + s A ⊗ B.

    The sides of A (a_out, a_in) are the largest divisors of out and in up to `factor`; A starts at 0, and B
    (out / a_out, in / a_in) is random. With `residual`, where out = in, the layer's input is added too, times a trained
    number that starts at 0. Trains the parameters of A and B, and that number. Source: Edalati et al., 2022, "KronA"
    and its residual form KronA^B_res; PEFT and LyCORIS call it LoKr with whole matrices.
    """

    @dataclass(frozen=True)
    class Config:
        """The maximum side of A (`factor` of LyCORIS), the fixed scale s, and whether square layers add their input."""

        factor: int = 16
        scale: float = 1.0
        residual: bool = False

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        (out_first, out_second), (in_first, in_second) = (divided(side, config.factor) for side in weight.shape)
        self.left = nn.Parameter(torch.zeros(out_first, in_first))
        self.right = kaiming(out_second, in_second, context)
        if config.residual and weight.shape[0] == weight.shape[1]:
            self.residual = nn.Parameter(torch.zeros(()))
        self.to(weight.device)

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """s A ⊗ B, and with `residual` the scaled identity, (out, in); the strength scales the delta."""
        product = torch.kron(strength * self.config.scale * self.left, self.right)
        if hasattr(self, "residual"):
            product.diagonal().add_(strength * self.residual)
        return product

    def terms(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> dict[str, Tensor]:
        """A and B, A scaled; the difference where the input is added."""
        if hasattr(self, "residual"):
            return super().terms(weight, bias, strength)
        return {"left": strength * self.config.scale * self.left, "right": self.right}

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The frozen output and the Kronecker product's, without building the product."""
        output = F.linear(x, weight, bias) + times_kronecker(x, self.config.scale * self.left, self.right)
        return output + self.residual.to(x.dtype) * x if hasattr(self, "residual") else output

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """The parameters of A and B, and one where the input is added."""
        (out_first, out_second), (in_first, in_second) = (divided(side, config.factor) for side in shape)
        residual = config.residual and shape[0] == shape[1]
        return out_first * in_first + out_second * in_second + residual

    @classmethod
    def sizes(cls, config: Config, narrowest: int, limit: int) -> Iterator[Config]:
        """Every factor."""
        return (replace(config, factor=factor) for factor in range(1, narrowest + 1))

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Any factor from 1 to 65536 fits: the sides of A always divide out and in."""
        check_range("factor", config.factor, 1, 65536, name)


def times_kronecker(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """x (…, in) times (A ⊗ B)ᵀ, (…, out): by B and by A in turn, (A ⊗ B) vec(X) = vec(A X Bᵀ)."""
    parts = F.linear(x.unflatten(-1, (-1, right.shape[1])), right.to(x.dtype))
    return (left.to(parts.dtype) @ parts).flatten(-2)


def divided(side: int, most: int) -> tuple[int, int]:
    """A side's largest divisor up to `most`, and the quotient."""
    first = next(divisor for divisor in range(min(side, most), 0, -1) if side % divisor == 0)
    return first, side // first
