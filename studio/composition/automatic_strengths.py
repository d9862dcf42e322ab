"""The sum of changes with strengths that each layer chooses for itself."""

import torch
from torch import Tensor

from studio.composition.base import MergeSite, weighted_sum
from studio.composition.gradient_fusion_layer import RIDGE, grams_of


def automatic_strengths(site: MergeSite, ridge: float = RIDGE) -> Tensor:
    """Σ μⱼ Δⱼ (out, in), with the strengths μ of this layer that change each concept's layer inputs Xᵢ most as the
    concept alone does: argmin over μ of Σᵢ |(λᵢ Δᵢ − Σⱼ μⱼ Δⱼ) Xᵢ|² + ρ |μ − λ|².

    One strength for each concept and layer: gradient fusion in the span of the concepts' own changes, so that the
    merged change stays an exact LoRA of the ranks' sum. ρ is `ridge` times the mean diagonal entry of the normal
    equations. Not in a paper. A single concept is unchanged.
    """
    if len(site.adapters) == 1:
        return weighted_sum(site)
    grams = grams_of(site, "automatic_strengths")
    strengths, deltas = zip(*site.parts(), strict=True)
    wanted, flat = torch.tensor(strengths, dtype=torch.float64), torch.stack([delta.flatten() for delta in deltas])
    total = torch.stack(list(grams)).sum(0)
    on_all = torch.stack([(delta @ total).flatten() for delta in deltas])
    on_own = torch.stack([s * delta @ gram for s, delta, gram in zip(strengths, deltas, grams, strict=True)]).sum(0)
    normal, target = (flat @ on_all.mT).double().cpu(), (flat @ on_own.flatten()).double().cpu()
    rho = ridge * normal.diagonal().mean()
    if not rho:
        return weighted_sum(site)
    chosen = torch.linalg.solve(normal + rho * torch.eye(len(wanted), dtype=normal.dtype), target + rho * wanted)
    return (chosen.to(flat) @ flat).view(site.weight.shape)
