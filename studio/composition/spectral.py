"""The spectral merge of spectral_additive concepts."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.spectral_additive import SpectralAdditive, spectral_delta
from studio.composition.base import MergeSite
from studio.layers.svd_basis import SingularColumns


def spectral(site: MergeSite) -> Tensor:
    """(U + Σ λᵢ A_Uᵢ) S (V + Σ λᵢ A_Vᵢ)ᵀ − W (out, in), for spectral_additive concepts only.

    Where no singular column is shared, this is the sum of the concepts' changes at their strengths. Where concepts
    share columns, their changes of U and V are added before the product. Concepts in bottom columns or a random basis
    are merged among themselves, and the groups are summed. Source: Zhang and Pilanci, 2024, "Spectral Adapter", fusion.
    """
    by_basis: dict[tuple[str, int], list[tuple[SpectralAdditive, float]]] = defaultdict(list)
    for adapter, strength in zip(map(_spectral, site.adapters), site.strengths, strict=True):
        by_basis[adapter.config.basis].append((adapter, strength))
    return torch.stack([_joint_delta(own) for own in by_basis.values()]).sum(0)


def _joint_delta(concepts: list[tuple[SpectralAdditive, float]]) -> Tensor:
    """The delta (out, in) of adapters with strengths in one basis."""
    columns, places = _joint_columns([adapter for adapter, _ in concepts])
    change_u, change_v, change_s = (torch.zeros_like(t) for t in (columns.u, columns.v, columns.s))
    for (adapter, strength), place in zip(concepts, places, strict=True):
        change_u.index_add_(1, place, adapter.change_u, alpha=strength)
        change_v.index_add_(1, place, adapter.change_v, alpha=strength)
        if (scaled := adapter.scale_change(strength)) is not None:
            change_s.index_add_(0, place, scaled)
    return spectral_delta(columns, change_u, change_v, change_s).dense()


def _joint_columns(adapters: list[SpectralAdditive]) -> tuple[SingularColumns, Sequence[Tensor]]:
    """The columns that any adapter tunes, each once, and for each adapter the indices of its own."""
    blocks = [torch.tensor(adapter.config.used, device=adapter.u.device) for adapter in adapters]
    used, place = torch.unique(torch.cat(blocks), return_inverse=True)

    def joined(parts: list[Tensor]) -> Tensor:
        every = torch.cat(parts, -1)
        return every.new_empty(*every.shape[:-1], len(used)).index_copy_(-1, place, every)

    columns = SingularColumns(
        joined([adapter.u for adapter in adapters]),
        joined([adapter.s for adapter in adapters]),
        joined([adapter.v for adapter in adapters]),
    )
    return columns, place.split([len(block) for block in blocks])


def _spectral(adapter: Adapter) -> SpectralAdditive:
    if not isinstance(adapter, SpectralAdditive):
        raise StudioError(
            "The merge method spectral only merges concepts of the adapter spectral_additive. Merge these with fedavg."
        )
    return adapter
