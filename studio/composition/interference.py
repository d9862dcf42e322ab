"""How far concepts interfere in a merge, from their changes alone, before anything is generated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from studio.adapters.base import Adapter
from studio.composition.loaded_concept import LoadedConcept
from studio.layers.target_modules import Site

_RANK_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Interference:
    """What one concept does at a site to another: `overlap`, the share of `other`'s squared change Δⱼ that reads the
    inputs which `concept`'s change Δᵢ reads, |Δⱼ Pᵢ|² / |Δⱼ|² with the projection Pᵢ on Δᵢ's row space, 0 to 1; and the
    cosine of both changes, -1 to 1.

    At 0 the other leaves the outputs for those inputs as they are.
    """

    site: str
    concept: str
    other: str
    overlap: float
    cosine: float


@torch.no_grad()
def interference(concepts: Mapping[str, LoadedConcept]) -> list[Interference]:
    """The interference of every two concepts at every site that both change, the strongest overlap first."""
    found = []
    for concept, other in permutations(concepts, 2):
        own, others = concepts[concept], concepts[other]
        for name in own.weight_adapters.keys() & others.weight_adapters.keys():
            pair = _measured(own.weight_adapters[name], others.weight_adapters[name], own.kind_sites[name])
            if pair is not None:
                found.append(Interference(name, concept, other, *pair))
    return sorted(found, key=lambda each: each.overlap, reverse=True)


def _measured(own: Adapter, other: Adapter, site: Site) -> tuple[float, float] | None:
    """Overlap and cosine; None where one of the changes is zero."""
    first, second = own.delta(site.weight).float(), other.delta(site.weight).float()
    norms = first.norm() * second.norm()
    if not norms:
        return None
    overlap = (second @ _row_space(own, first, site)).square().sum() / second.square().sum()
    return min(1.0, overlap.item()), ((first * second).sum() / norms).item()


def _row_space(adapter: Adapter, delta: Tensor, site: Site) -> Tensor:
    """An orthonormal basis (in, r) of the inputs that a change (out, in) reads."""
    factors = adapter.factors(site.weight)
    rows = delta if factors is None else factors.down.float()
    _, values, basis = torch.linalg.svd(rows, full_matrices=False)
    return basis[values > _RANK_TOLERANCE * values[0]].mT


def by_pair(found: Sequence[Interference]) -> dict[tuple[str, str], dict[str, float]]:
    """The means over sites of overlap and cosine for each ordered pair, with the highest overlap."""
    pairs: dict[tuple[str, str], list[Interference]] = {}
    for each in found:
        pairs.setdefault((each.concept, each.other), []).append(each)
    return {
        pair: {
            "overlap": sum(each.overlap for each in own) / len(own),
            "highest_overlap": max(each.overlap for each in own),
            "cosine": sum(each.cosine for each in own) / len(own),
        }
        for pair, own in pairs.items()
    }
