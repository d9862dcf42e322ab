"""Spectral rotation of the top singular vectors."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import Adapter, SiteContext, check_columns, check_range
from studio.decomposition import singular_columns
from studio.low_rank import LowRank
from studio.rotations import cayley_change, cayley_numbers, skew, skew_size
from studio.sites import Role


class SpectralRotational(Adapter):
    """Rotates r singular columns of W = U S Vᵀ: W' = W + U₁ R_U S₁ (V₁ R_V)ᵀ − U₁ S₁ V₁ᵀ.

    U₁ (out, r), S₁ (r,) and V₁ (in, r) are the concept's own columns [first_column, first_column + r); R_U and
    R_V (r, r) are the Cayley transforms of two skew matrices, of which only the free numbers are trained and
    stored, and start at zero. Trains r (r - 1) numbers, and r more with `train_scale`, which makes S₁ (1 + s) of
    S₁; the paper counts 2r². Source: Zhang and Pilanci, 2024, "Spectral Adapter", rotational form.

    U₁ R_U and V₁ R_V are still orthonormal (its Lemma 4.1), so `start_again` turns from there.
    """

    @dataclass(frozen=True)
    class Config:
        """Options: how many columns, which is the first, and whether each column's scale is trained too."""

        rank: int = 8
        first_column: int = 0
        train_scale: bool = False

    config: Config
    learning_rates: ClassVar = {"unet": 5e-3, "text_encoder": 1e-3}
    uses_columns: ClassVar = True
    owns_block: ClassVar = True
    u: Tensor
    s: Tensor
    v: Tensor
    turned: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        kept = context.columns if context else None
        own = (kept or singular_columns(weight)).block(config.first_column, config.rank)
        # (2, r, r): how far U₁ and V₁ had been turned, less I, when this training began
        turned = torch.zeros(2, config.rank, config.rank)
        for name, tensor in (("u", own.u), ("s", own.s), ("v", own.v), ("turned", turned)):
            self.register_buffer(name, tensor, persistent=False)
        self.skew = nn.Parameter(torch.zeros(2, skew_size(config.rank)))
        self.change_s = nn.Parameter(torch.zeros_like(own.s)) if config.train_scale else None
        self.to(weight.device)

    def turns(self, strength: float = 1.0) -> Tensor:
        """R_U − I and R_V − I, (2, r, r), exactly zero where nothing was turned; the strength scales the skew
        matrices.
        """
        if strength != 1:
            return cayley_change(skew(strength * self._total_skew(), self.config.rank))
        change = cayley_change(skew(self.skew, self.config.rank))
        return self.turned + change + self.turned @ change

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """The exact delta, of rank r: up = U₁ (R_U S' R_Vᵀ − S₁) and down = V₁ᵀ."""
        change_u, change_v = self.turns(strength).unbind()
        s = self.s if self.change_s is None else self.s * (1 + strength * self.change_s)
        # R_U S' R_Vᵀ − S₁ with R = I + change, so that no term cancels another
        core = change_u * s + s[:, None] * change_v.mT + (change_u * s) @ change_v.mT
        if self.change_s is not None:
            core = core + torch.diag(strength * self.change_s * self.s)
        return LowRank(up=self.u @ core, down=self.v.mT)

    @torch.no_grad()
    def start_again(self) -> None:
        """Later training turns from U₁ R_U and V₁ R_V, with no new SVD: they are orthonormal as they are."""
        self.turned.copy_(self.turns())
        self.skew.zero_()

    def trained_state(self) -> dict[str, Tensor]:
        """The skew matrices of the whole rotation, wherever this training began."""
        return super().trained_state() | {"skew": self._total_skew().detach().cpu().clone()}

    def _total_skew(self) -> Tensor:
        if not self.turned.any():
            return self.skew
        return cayley_numbers(self.turns() + torch.eye(self.config.rank, device=self.skew.device))

    @classmethod
    def number_trained(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """r (r - 1), and r more with the scale."""
        return 2 * skew_size(config.rank) + config.rank * config.train_scale

    @classmethod
    def number_published(cls, shape: tuple[int, ...], config: Config, role: Role = "matrix") -> int:
        """2r², every entry of both matrices, and r more with the scale."""
        return 2 * config.rank**2 + config.rank * config.train_scale

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """A single column cannot turn, but its scale can be trained; and the columns must exist."""
        check_range("rank", config.rank, 1 if config.train_scale else 2, min(shape), name)
        check_columns(shape, config, name)
