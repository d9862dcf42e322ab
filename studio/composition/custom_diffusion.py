"""Custom Diffusion's merge of keys and values of cross-attention."""

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.composition.base import MergeSite, weighted_sum
from studio.composition.gradient_fusion_layer import gradient_fusion_preserving, wanted_products

RIDGE = 1e-4
"""Relative to the mean of the diagonal of the preserved inputs' Gram matrix."""
_RANK_TOLERANCE = 1e-4
"""Below this fraction of the largest eigenvalue, the concepts' inputs are rounding errors of float32."""
_PROJECTIONS = ("attn2.to_k", "attn2.to_v")


def custom_diffusion(site: MergeSite, ridge: float = RIDGE) -> Tensor:
    """The change that gives each concept's own inputs its own outputs, and changes those of other prompts least:
    argmin over D of |D X₀|² + ρ |D|² such that D Xᵢ = λᵢ Δᵢ Xᵢ for every concept.

    Xᵢ are the layer's inputs at the concept's tokens and the end of the text, and X₀ those for prompts without a
    concept; ρ is `ridge` times the mean diagonal entry of X₀ X₀ᵀ. With X₀ X₀ᵀ + ρ I = L Lᵀ and G = Σᵢ Xᵢ Xᵢᵀ it is
    D = (Σᵢ λᵢ Δᵢ Xᵢ Xᵢᵀ) L⁻ᵀ (L⁻¹ G L⁻ᵀ)⁺ L⁻¹; constraints that exclude one another are met in the least squares sense.
    So for keys and values of cross-attention; other layers, which Custom Diffusion does not train, are merged as by
    `gradient_fusion_preserving`. Source: Kumari et al., 2023, "Custom Diffusion", Eq. 4 and 5, which need X₀ X₀ᵀ to be
    invertible.
    """
    if len(site.adapters) == 1:
        return weighted_sum(site)
    if not site.name.endswith(_PROJECTIONS):
        return gradient_fusion_preserving(site)
    if site.grams is None or site.preserved is None:
        raise StudioError(
            "custom_diffusion needs the Gram matrices of the layers' inputs. Use merged_deltas or MergeCache, which "
            "record them, or merge with fedavg."
        )
    kept, own = site.preserved.double(), torch.stack(list(site.grams)).sum(0).double()
    kept = kept + ridge * kept.diagonal().mean() * torch.eye(len(kept), dtype=kept.dtype, device=kept.device)
    inverse = torch.linalg.inv(torch.linalg.cholesky(kept))
    whitened = torch.linalg.pinv(inverse @ own @ inverse.mT, rtol=_RANK_TOLERANCE, hermitian=True)
    return (wanted_products(site, site.grams).double() @ inverse.mT @ whitened @ inverse).float()
