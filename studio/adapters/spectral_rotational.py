"""Spectral rotation of a concept's own singular columns."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import SiteContext
from studio.adapters.singular_columns import OwnColumns
from studio.layers.low_rank import LowRank
from studio.layers.rotations import cayley_change, cayley_numbers, skew, skew_size
from studio.layers.target_modules import Role


class SpectralRotational(OwnColumns):
    """Rotates r left and right singular vectors: W' = W + U₁ R_U S₁ (V₁ R_V)ᵀ − U₁ S₁ V₁ᵀ.

    U₁ (out, r), S₁ (r,) and V₁ (in, r) are the concept's own columns; R_U and R_V (r, r) are the Cayley transforms of
    two skew-symmetric matrices, of which only the upper triangles are trained and stored, and start at zero. Trains
    r (r - 1) parameters, and r more with `train_scale`, which replaces S₁ by S₁ (1 + s) or S₁ + s; the paper counts
    2r². Source: Zhang and Pilanci, 2024, "Spectral Adapter", rotational form.

    U₁ R_U and V₁ R_V stay orthonormal (Lemma 4.1 there), so that a continued training rotates them further.
    """

    learning_rates: ClassVar = {"unet": 5e-3, "text_encoder": 1e-3}
    initial_change: Tensor | None

    def __init__(self, weight: Tensor, config: OwnColumns.Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        # (2, r, r): the rotations of U₁ and V₁ minus I when this training started; None for the identity
        self.register_buffer("initial_change", None, persistent=False)
        self.skew = nn.Parameter(torch.zeros(2, skew_size(config.rank), device=weight.device))

    def rotation_change(self, strength: float = 1.0) -> Tensor:
        """R_U − I and R_V − I, (2, r, r), zero at the start; the strength scales the skew-symmetric matrices."""
        if strength != 1:
            return cayley_change(skew(strength * self._total_skew(), self.config.rank))
        change = cayley_change(skew(self.skew, self.config.rank))
        return change if self.initial_change is None else self.initial_change + change + self.initial_change @ change

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """The exact delta, of rank r: up = U₁ (R_U S' R_Vᵀ − S₁) and down = V₁ᵀ."""
        change_u, change_v = self.rotation_change(strength).unbind()
        change_s = self.scale_change(strength)
        s = self.s if change_s is None else self.s + change_s
        # R_U S' R_Vᵀ − S₁ with R = I + change, so that no term cancels another
        from_u = change_u * s
        core = torch.addmm(from_u, from_u + s.diag(), change_v.mT)
        if change_s is not None:
            core = core + change_s.diag()
        return LowRank(up=self.u @ core, down=self.v.mT)

    @torch.no_grad()
    def rebase(self) -> None:
        """Later training rotates from U₁ R_U and V₁ R_V, which are orthonormal, so that no new SVD is needed."""
        self.initial_change = self.rotation_change()
        self.skew.zero_()

    def trained_state(self) -> dict[str, Tensor]:
        """The skew-symmetric matrices of the whole rotation, including earlier trainings."""
        return super().trained_state() | {"skew": self._total_skew().detach().cpu().clone()}

    def _total_skew(self) -> Tensor:
        if self.initial_change is None:
            return self.skew
        return cayley_numbers(self.rotation_change() + torch.eye(self.config.rank, device=self.skew.device))

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: OwnColumns.Config, role: Role = "matrix") -> int:
        """r (r - 1), and r more with the scale."""
        return 2 * skew_size(config.rank) + config.rank * config.train_scale

    @classmethod
    def num_published_parameters(cls, shape: tuple[int, ...], config: OwnColumns.Config, role: Role = "matrix") -> int:
        """2r², every entry of both matrices, and r more with the scale."""
        return 2 * config.rank**2 + config.rank * config.train_scale

    @classmethod
    def least_rank(cls, config: OwnColumns.Config) -> int:
        """A single column cannot rotate, but its scale can be trained."""
        return 1 if config.train_scale else 2
