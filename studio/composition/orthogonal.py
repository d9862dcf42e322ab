"""The sum of concepts that were trained on separate rows of one orthogonal basis."""

from torch import Tensor

from concepts.errors import StudioError
from studio.adapters.orthogonal import Orthogonal
from studio.composition.base import MergeSite, weighted_sum


def orthogonal(site: MergeSite) -> Tensor:
    """Σ λᵢ Bᵢ Aᵢ (out, in), for orthogonal concepts of one basis seed only: the rows of all Aᵢ are orthogonal.

    Source: Po et al., 2024, "Orthogonal adaptation for modular customization", Eq. 5.
    """
    seeds = set()
    for adapter in site.adapters:
        if not isinstance(adapter, Orthogonal):
            raise StudioError(
                "The merge method orthogonal only merges concepts of the adapter orthogonal. Merge these with fedavg."
            )
        seeds.add(adapter.config.seed)
    if len(seeds) > 1:
        raise StudioError(
            "These concepts were trained with different seeds of the orthogonal basis. Merge them with fedavg."
        )
    return weighted_sum(site)
