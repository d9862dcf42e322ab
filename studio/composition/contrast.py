"""Merging by contrast: each concept's own outputs, pushed away from those of the others."""

import torch
from torch import Tensor

from studio.composition.base import MergeSite, weighted_sum
from studio.composition.gradient_fusion_layer import RIDGE, grams_of, least_squares

CONTRAST = 0.25


def contrast(site: MergeSite, contrast: float = CONTRAST, ridge: float = RIDGE) -> Tensor:
    """Gradient fusion whose wanted outputs on concept i's layer inputs Xᵢ are further from the others' than its own:
    argmin Σᵢ |(Tᵢ − D) Xᵢ|² + ρ |D|² with Tᵢ = λᵢ Δᵢ + γ (λᵢ Δᵢ − the mean of λⱼ Δⱼ over j ≠ i).

    γ is `contrast`; at 0 it is `gradient_fusion`. The aim is that of Simsar et al., 2025, "LoRACLR": a concept's own
    outputs attract, those of others repel. They train the change with a contrastive loss; here both terms are squares,
    and the minimum is in closed form. It needs no columns, so it is for any LoRA. A single concept is unchanged.
    """
    if len(site.adapters) == 1:
        return weighted_sum(site)
    grams = grams_of(site, "contrast")
    total, others = torch.stack(list(grams)).sum(0), len(grams) - 1
    # λⱼ Δⱼ is wanted on Xⱼ with 1 + γ, and on the other concepts' inputs with −γ / (n − 1)
    mixed = [(1 + contrast) * own - contrast / others * (total - own) for own in grams]
    return least_squares(site, grams, mixed, ridge)
