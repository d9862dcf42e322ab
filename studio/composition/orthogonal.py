"""The sum of concepts that were trained on separate rows of one orthogonal basis."""

from torch import Tensor

from concepts.errors import StudioError
from studio.adapters.orthogonal import Orthogonal
from studio.composition.base import MergeSite, weighted_sum


def orthogonal(site: MergeSite) -> Tensor:
    """Σ λᵢ Bᵢ Aᵢ (out, in) where the rows of all Aᵢ are orthogonal, so that concepts act on orthogonal inputs.

    Source: Po et al., 2024, "Orthogonal adaptation for modular customization", Eq. 5. StudioError for other adapters,
    and for bases of different seeds.
    """
    seeds = set()
    for adapter in site.adapters:
        if not isinstance(adapter, Orthogonal):
            raise StudioError("The orthogonal merge sums orthogonal concepts only: merge these with fedavg.")
        seeds.add(adapter.config.seed)
    if len(seeds) > 1:
        raise StudioError("Merge concepts of one basis, or use fedavg: these were trained with different seeds of it.")
    return weighted_sum(site)
