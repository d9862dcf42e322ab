"""Orthogonal fine-tuning."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.errors import StudioError
from studio.adapters.base import Adapter, SiteContext
from studio.layers.rotations import cayley_change, skew, skew_size
from studio.layers.target_modules import Role


class Oft(Adapter):
    """Rotates the input in blocks: W' = W blockdiag(Q, …, Q), Q = Cayley(skew), r blocks along `in`.

    Trains b (b - 1) / 2 parameters for blocks of size b = in / r, or r times as many where every block has its own
    rotation; the paper counts b². Source: Qiu et al., 2023, "Controlling text-to-image diffusion by orthogonal
    finetuning", Eq. 4, on the input as in the Spectral Adapter paper.
    """

    @dataclass(frozen=True)
    class Config:
        """The number of blocks (`r` of PEFT), and whether all of them share one rotation (`block_share`)."""

        rank: int = 8
        shared: bool = True

    config: Config
    learning_rates: ClassVar = {"unet": 1e-3, "text_encoder": 2e-4}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.block = weight.shape[1] // config.rank
        self.skew = nn.Parameter(torch.zeros(1 if config.shared else config.rank, skew_size(self.block)))
        self.to(weight.device)

    def rotation_change(self, strength: float = 1.0) -> Tensor:
        """Q − I, (1 or r, b, b); the strength scales the skew matrices, so that Q stays a rotation."""
        return cayley_change(skew(strength * self.skew, self.block))

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """W blockdiag(Q − I), (out, in)."""
        return _by_block(weight.float(), self.rotation_change(strength).mT)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Rotates the input instead of the weight, so that there is one dense product."""
        return F.linear(x + _by_block(x, self.rotation_change().to(x.dtype)), weight, bias)

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """b (b - 1) / 2 for each rotation."""
        return skew_size(shape[1] // config.rank) * (1 if config.shared else config.rank)

    @classmethod
    def num_published_parameters(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """b² for each rotation."""
        return (shape[1] // config.rank) ** 2 * (1 if config.shared else config.rank)

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """The rank must divide `in` into blocks of 2 or more."""
        if not 1 <= config.rank <= shape[1] // 2 or shape[1] % config.rank:
            site = f" at {name}" if name else ""
            raise StudioError(
                f"rank {config.rank} is impossible{site}. Choose one that divides {shape[1]} into blocks of 2 or more."
            )


def _by_block(rows: Tensor, rotation_change: Tensor) -> Tensor:
    """Multiplies each block x of the last dimension by its rotation R, as x Rᵀ."""
    blocks = rows.unflatten(-1, (-1, rotation_change.shape[-1]))
    if len(rotation_change) == 1:
        return F.linear(blocks, rotation_change[0]).flatten(-2)
    return torch.einsum("...kb,kcb->...kc", blocks, rotation_change).flatten(-2)
