"""LoKr."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext, check_range
from studio.adapters.krona import divided, times_kronecker
from studio.adapters.lora import alpha_scale, gaussian, kaiming
from studio.layers.target_modules import Role


class Lokr(Adapter):
    """A Kronecker product with a low-rank factor: W' = W + (α / r) W₁ ⊗ (W₂ₐ W₂ᵦ).

    The sides of W₁ (out₁, in₁) are the largest divisors of out and in up to `factor`; W₂ₐ is (out / out₁, r) and W₂ᵦ
    (r, in / in₁). Where r reaches the shorter side of the second matrix it is whole, W₂, without the scale; in LyCORIS
    from half of the longer side on. W₁ starts at 0, the rest is random. Trains the parameters of both. Source: Yeh et
    al., 2024, "LyCORIS", section 3.3, after Edalati et al., 2022, "KronA".
    """

    @dataclass(frozen=True)
    class Config:
        """The rank of the second matrix, the largest side of the first, and alpha; None means the rank."""

        rank: int = 8
        factor: int = 8
        alpha: float | None = None

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        (out_first, out_second), (in_first, in_second) = (divided(side, config.factor) for side in weight.shape)
        self.left = nn.Parameter(torch.zeros(out_first, in_first))
        self.scale = 1.0
        if config.rank < min(out_second, in_second):
            self.scale = alpha_scale(config)
            self.right_up = gaussian(out_second, config.rank, 1 / config.rank**0.5, context, "right_up")
            self.right_down = kaiming(config.rank, in_second, context, "right_down")
        else:
            self.right = kaiming(out_second, in_second, context, "right")
        self.to(weight.device)

    def second(self) -> Tensor:
        """The second matrix, (out / out₁, in / in₁)."""
        return self.right if hasattr(self, "right") else self.right_up @ self.right_down

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """The scaled product, (out, in); the strength scales it."""
        return torch.kron(strength * self.scale * self.left, self.second())

    def terms(self, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> dict[str, Tensor]:
        """Both matrices, the first scaled."""
        return {"left": strength * self.scale * self.left, "right": self.second()}

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The frozen output and the Kronecker product's, without building the product."""
        return F.linear(x, weight, bias) + times_kronecker(x, self.scale * self.left, self.second())

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """Those of the first matrix, and r (out / out₁ + in / in₁) or the whole second one."""
        (out_first, out_second), (in_first, in_second) = (divided(side, config.factor) for side in shape)
        whole = config.rank >= min(out_second, in_second)
        return out_first * in_first + (out_second * in_second if whole else config.rank * (out_second + in_second))

    @classmethod
    def sizes(cls, config: Config, narrowest: int, limit: int) -> Iterator[Config]:
        """Every rank at the given factor."""
        return (replace(config, rank=rank) for rank in range(1, narrowest + 1))

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Any factor and rank from 1 to 65536 fits; a rank beyond the second matrix makes it whole."""
        check_range("factor", config.factor, 1, 65536, name)
        check_range("rank", config.rank, 1, 65536, name)
