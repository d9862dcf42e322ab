"""T-LoRA."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import Adapter, SiteContext, check_range
from studio.adapters.lora import alpha_scale
from studio.layers.low_rank import LowRank
from studio.layers.random_bases import smallest_singular_values
from studio.layers.target_modules import Role
from studio.layers.timesteps import CURRENT


class TLora(Adapter):
    """LoRA whose rank falls with the noise: at timestep t of T, W' = W + (α / r) (B S Mₜ A − B₀ S₀ Mₜ A₀).

    Mₜ keeps the first ⌊(r − r_min) (T − t) / T⌋ + r_min of the r components. B (out, r), S (r) and A (r, in) start at
    B₀, S₀ and A₀, the last r singular triplets of a random matrix (Ortho-LoRA), whose part is subtracted; their changes
    are trained and stored, which start at 0, and the random matrix follows from the seed. In the text
    encoder, which has no timestep, all components act. Merged concepts keep their own rank at each timestep; what is
    exported is the LoRA of t = 0, of rank 2r. Trains r (in + out + 1) parameters. Source: Soboleva et al., 2025,
    "T-LoRA", sections 3.2 and 3.3.
    """

    @dataclass(frozen=True)
    class Config:
        """The rank r at t = 0; the rank at t = T, None means half of r; alpha, None means r; and the seed of the random
        matrix.
        """

        rank: int = 8
        min_rank: int | None = None
        alpha: float | None = None
        seed: int = 0

    config: Config
    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}
    start_up: Tensor
    start_values: Tensor
    start_down: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.by_timestep = context is not None and context.name.startswith("unet.")
        start = SiteContext(seed=config.seed, name=context.name if context else "")
        up, values, down = _last_triplets(tuple(weight.shape), config.rank, start, weight.device)
        for name, tensor in (("up", up), ("values", values), ("down", down)):
            self.register_buffer(f"start_{name}", tensor, persistent=False)
        self.up = nn.Parameter(torch.zeros_like(up))
        self.values = nn.Parameter(torch.zeros_like(values))
        self.down = nn.Parameter(torch.zeros_like(down))

    @property
    def acts_on_output(self) -> bool:
        """True in the UNet."""
        return self.by_timestep

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """The change at t = 0, as factors of rank 2r, exactly zero at the start; the strength scales the delta."""
        scale = strength * alpha_scale(self.config)
        change = self.up * (self.start_values + self.values) + self.start_up * self.values  # of B S
        up = torch.cat([scale * change, scale * self.start_up * self.start_values], 1)
        return LowRank(up, torch.cat([self.start_down + self.down, self.down]))

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's output with the components of the current timesteps; x is (n, …, in)."""
        return self.change_output(F.linear(x, weight, bias), x)

    def change_output(self, output: Tensor, x: Tensor, strength: float = 1.0) -> Tensor:
        """The output (n, …, out) with the components of the current timesteps added."""
        factors = self.factors(output, strength)
        hidden = self.gated(F.linear(x, factors.down.to(x.dtype)))
        self.call_hook(hidden.reshape(-1, factors.rank), factors)
        return output + F.linear(hidden, factors.up.to(hidden.dtype))

    def gated(self, hidden: Tensor) -> Tensor:
        """Hidden activations (n, …, 2r), those of components that the current timesteps leave out set to 0."""
        if not self.by_timestep or CURRENT.fractions is None:
            return hidden
        rank, least = self.config.rank, math.ceil(self.config.rank / 2)
        least = least if self.config.min_rank is None else self.config.min_rank
        kept = ((rank - least) * (1 - CURRENT.fractions)).floor() + least
        mask = torch.arange(rank, device=kept.device) < kept[:, None]
        mask = mask.repeat(len(hidden) // len(mask), 2).to(hidden)
        return hidden * mask.unflatten(0, (len(hidden), *(1 for _ in hidden.shape[1:-1])))

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """r (in + out + 1)."""
        return config.rank * (sum(shape) + 1)

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """The ranks must fit the matrix."""
        check_range("rank", config.rank, 1, min(shape), name)
        if config.min_rank is not None:
            check_range("min_rank", config.min_rank, 1, config.rank, name)


def _last_triplets(
    shape: tuple[int, ...], rank: int, context: SiteContext, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """The last `rank` singular triplets of a random matrix (out, in) of N(0, 1 / r²): (out, r), (r,) and (r, in).

    A Gaussian matrix' singular vectors are uniformly distributed and independent of its singular values, so both are
    drawn by themselves, without its SVD; the values are the same for all layers of one shape.
    """
    if device.type == "meta":
        empty = torch.empty(*shape, device=device)
        return empty[:, :rank], empty[0, :rank], empty[:rank]
    sides = []
    for name, size in zip(("up", "down"), shape, strict=True):
        generator = context.generator(name)
        sides.append(torch.linalg.qr(torch.randn(size, rank, generator=generator)).Q.to(device))
    values = smallest_singular_values(*shape, rank) / rank
    return sides[0], values.to(device), sides[1].mT.contiguous()
