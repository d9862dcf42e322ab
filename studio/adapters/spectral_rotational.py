"""Spectral rotation of the top singular vectors."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import SiteContext
from studio.adapters.own_columns import OwnColumns
from studio.layers.low_rank import LowRank
from studio.layers.rotations import cayley_change, cayley_numbers, skew, skew_size
from studio.layers.sites import Role


class SpectralRotational(OwnColumns):
    """Rotates r singular columns of W = U S Vᵀ: W' = W + U₁ R_U S₁ (V₁ R_V)ᵀ − U₁ S₁ V₁ᵀ.

    U₁ (out, r), S₁ (r,) and V₁ (in, r) are the concept's own columns [first_column, first_column + r); R_U and
    R_V (r, r) are the Cayley transforms of two skew matrices, of which only the free numbers are trained and
    stored, and start at zero. Trains r (r - 1) numbers, and r more with `train_scale`, which makes S₁ (1 + s) of
    S₁; the paper counts 2r². Source: Zhang and Pilanci, 2024, "Spectral Adapter", rotational form.

    U₁ R_U and V₁ R_V are still orthonormal (its Lemma 4.1), so `rebase` turns from there.
    """

    learning_rates: ClassVar = {"unet": 5e-3, "text_encoder": 1e-3}
    turned: Tensor | None

    def __init__(self, weight: Tensor, config: OwnColumns.Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        # (2, r, r): how far U₁ and V₁ had been turned, less I, when this training began; None if not at all
        self.register_buffer("turned", None, persistent=False)
        self.skew = nn.Parameter(torch.zeros(2, skew_size(config.rank), device=weight.device))

    def turns(self, strength: float = 1.0) -> Tensor:
        """R_U − I and R_V − I, (2, r, r), exactly zero where nothing was turned; the strength scales the skew
        matrices.
        """
        if strength != 1:
            return cayley_change(skew(strength * self._total_skew(), self.config.rank))
        change = cayley_change(skew(self.skew, self.config.rank))
        return change if self.turned is None else self.turned + change + self.turned @ change

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """The exact delta, of rank r: up = U₁ (R_U S' R_Vᵀ − S₁) and down = V₁ᵀ."""
        change_u, change_v = self.turns(strength).unbind()
        s = self.s if self.change_s is None else self.s * (1 + strength * self.change_s)
        # R_U S' R_Vᵀ − S₁ with R = I + change, so that no term cancels another
        from_u = change_u * s
        core = torch.addmm(from_u, from_u + s.diag(), change_v.mT)
        if self.change_s is not None:
            core = core + (strength * self.change_s * self.s).diag()
        return LowRank(up=self.u @ core, down=self.v.mT)

    @torch.no_grad()
    def rebase(self) -> None:
        """Later training turns from U₁ R_U and V₁ R_V, with no new SVD: they are orthonormal as they are."""
        self.turned = self.turns()
        self.skew.zero_()

    def trained_state(self) -> dict[str, Tensor]:
        """The skew matrices of the whole rotation, wherever this training began."""
        return super().trained_state() | {"skew": self._total_skew().detach().cpu().clone()}

    def _total_skew(self) -> Tensor:
        if self.turned is None:
            return self.skew
        return cayley_numbers(self.turns() + torch.eye(self.config.rank, device=self.skew.device))

    @classmethod
    def number_trained(cls, shape: tuple[int, ...], config: OwnColumns.Config, role: Role = "matrix") -> int:
        """r (r - 1), and r more with the scale."""
        return 2 * skew_size(config.rank) + config.rank * config.train_scale

    @classmethod
    def number_published(cls, shape: tuple[int, ...], config: OwnColumns.Config, role: Role = "matrix") -> int:
        """2r², every entry of both matrices, and r more with the scale."""
        return 2 * config.rank**2 + config.rank * config.train_scale

    @classmethod
    def least_rank(cls, config: OwnColumns.Config) -> int:
        """A single column cannot turn, but its scale can be trained."""
        return 1 if config.train_scale else 2
