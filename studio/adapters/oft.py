"""Orthogonal fine-tuning."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.errors import StudioError
from studio.adapters.base import Adapter, SiteContext
from studio.layers.rotations import cayley_change, skew, skew_size
from studio.layers.sites import Role


class Oft(Adapter):
    """Rotates the input in blocks: W' = W blockdiag(Q, …, Q), Q = Cayley(skew), r blocks along `in`.

    Trains b (b - 1) / 2 numbers for blocks of size b = in / r, or r times as many where every block has a rotation
    of its own; the paper counts b². Source: Qiu et al., 2023, "Controlling text-to-image diffusion by orthogonal
    finetuning", Eq. 4, on the input as the Spectral Adapter paper has it.
    """

    @dataclass(frozen=True)
    class Config:
        """Options: `rank` is the number of blocks, and with `shared` they all turn alike."""

        rank: int = 8
        shared: bool = True

    config: Config
    learning_rates: ClassVar = {"unet": 1e-3, "text_encoder": 2e-4}

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.block = weight.shape[1] // config.rank
        self.skew = nn.Parameter(torch.zeros(1 if config.shared else config.rank, skew_size(self.block)))
        self.to(weight.device)

    def turns(self, strength: float = 1.0) -> Tensor:
        """Q − I, (1 or r, b, b); the strength scales the skew matrices, so that Q stays a rotation."""
        return cayley_change(skew(strength * self.skew, self.block))

    def delta(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """W blockdiag(Q − I), (out, in)."""
        return _by_block(weight.float(), self.turns(strength).mT)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Turns the input instead of the weight, which is one dense product in all."""
        return F.linear(x + _by_block(x, self.turns().to(x.dtype)), weight, bias)

    @classmethod
    def number_trained(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """b (b - 1) / 2 for each rotation."""
        return skew_size(shape[1] // config.rank) * (1 if config.shared else config.rank)

    @classmethod
    def number_published(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """b² for each rotation."""
        return (shape[1] // config.rank) ** 2 * (1 if config.shared else config.rank)

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """The rank must divide `in` into blocks of 2 or more."""
        if not 1 <= config.rank <= shape[1] // 2 or shape[1] % config.rank:
            site = f" at {name}" if name else ""
            raise StudioError(
                f"Choose a rank that divides {shape[1]} into blocks of 2 or more{site}: {config.rank} does not."
            )


def _by_block(rows: Tensor, turns: Tensor) -> Tensor:
    """Each block of the last dimension, x, as x turnᵀ."""
    blocks = rows.unflatten(-1, (-1, turns.shape[-1]))
    if len(turns) == 1:
        return F.linear(blocks, turns[0]).flatten(-2)
    return torch.einsum("...kb,kcb->...kc", blocks, turns).flatten(-2)
