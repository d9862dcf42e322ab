"""How far concepts interfere in a merge, from their changes alone, before anything is generated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from studio.composition.loaded_concept import LoadedConcept
from studio.layers.low_rank import LowRank

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
    changes = {name: _changes(concept) for name, concept in concepts.items()}
    for concept, other in permutations(concepts, 2):
        own, others = changes[concept], changes[other]
        for site in own.keys() & others.keys():
            first, second = own[site], others[site]
            squares = _product(first, first), _product(second, second)
            if min(squares) > 0:
                read = LowRank(second.up, second.down @ _row_space(first.down))
                overlap = min(1.0, _product(read, read) / squares[1])
                cosine = _product(first, second) / (squares[0] * squares[1]) ** 0.5
                found.append(Interference(site, concept, other, overlap, cosine))
    return sorted(found, key=lambda each: each.overlap, reverse=True)


def _changes(concept: LoadedConcept) -> dict[str, LowRank]:
    """The concept's changes of weights by site, as products: that of a change of any rank has the identity as up."""
    found = {}
    for name, adapter in concept.weight_adapters.items():
        weight = concept.kind_sites[name].weight
        factors = adapter.factors(weight)
        if factors is None:
            factors = LowRank(torch.eye(len(weight), device=weight.device), adapter.delta(weight))
        found[name] = LowRank(factors.up.float(), factors.down.float())
    return found


def _product(first: LowRank, second: LowRank) -> float:
    """The inner product of two changes, from their factors."""
    return float(((first.up.mT @ second.up) * (first.down @ second.down.mT)).sum())


def _row_space(rows: Tensor) -> Tensor:
    """An orthonormal basis (in, r) of the inputs that the rows (n, in) of a change read."""
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
