"""Spectral additive tuning of a concept's own singular columns."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from studio.adapters.base import SiteContext
from studio.adapters.singular_columns import OwnColumns
from studio.layers.low_rank import LowRank
from studio.layers.svd_basis import SingularColumns
from studio.layers.target_modules import Role


class SpectralAdditive(OwnColumns):
    """Trains additive changes of r left and right singular vectors: W' = W + (U₁ + A_U) S₁ (V₁ + A_V)ᵀ − U₁ S₁ V₁ᵀ.

    U₁ (out, r), S₁ (r,) and V₁ (in, r) are the concept's own columns; A_U (out, r) and A_V (in, r) are trained and
    start at zero. Trains r (in + out) parameters, and r more with `train_scale`, which replaces S₁ by S₁ (1 + s) or
    S₁ + s. Source: Zhang and Pilanci, 2024, "Spectral Adapter", additive form.
    """

    learning_rates: ClassVar = {"unet": 2e-3, "text_encoder": 5e-4}

    def __init__(self, weight: Tensor, config: OwnColumns.Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        self.change_u = nn.Parameter(torch.zeros_like(self.u))
        self.change_v = nn.Parameter(torch.zeros_like(self.v))

    def factors(self, weight: Tensor, strength: float = 1.0) -> LowRank:
        """The exact delta, of rank 2r; the strength scales A_U, A_V and the scale's change."""
        change_u, change_v = strength * self.change_u, strength * self.change_v
        return spectral_delta(self.columns, change_u, change_v, self.scale_change(strength))

    @classmethod
    def num_parameters(cls, shape: tuple[int, ...], config: OwnColumns.Config, role: Role = "matrix") -> int:
        """r (in + out), and r more with the scale."""
        return config.rank * (sum(shape) + config.train_scale)


def spectral_delta(
    columns: SingularColumns, change_u: Tensor, change_v: Tensor, change_s: Tensor | None = None
) -> LowRank:
    """(U + A_U) S' (V + A_V)ᵀ − U S Vᵀ of rank 2r, exactly zero where nothing changed; S' = S + change_s.

    Written as A_U S' (V + A_V)ᵀ + U (S' A_Vᵀ + (S' − S) Vᵀ), so that no term cancels another.
    """
    u, s, v = columns.u, columns.s, columns.v
    from_v = change_v * s
    if change_s is not None:
        s = s + change_s
        from_v = change_v * s + v * change_s
    return LowRank(up=torch.cat([change_u.mT, u.mT]).mT, down=torch.cat([((v + change_v) * s).mT, from_v.mT]))
