"""The interface of merge methods: a pure function from one site's adapters to the merged delta of its weight."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Site
from studio.models.layer_strengths import Strength, strength_at


@dataclass(frozen=True)
class MergeSite:
    """One site of the base, weight (out, in), with the adapters of the concepts to merge and a strength for each.

    `grams` are the Gram matrices X Xᵀ (in, in) of the layer's inputs X under each concept, for methods that use
    them, and `preserved` is that of inputs whose outputs should not change; `name` is the site's, which seeds random
    choices.
    """

    weight: Tensor
    adapters: Sequence[Adapter]
    strengths: Sequence[float]
    grams: Sequence[Tensor] | None = None
    name: str = ""
    preserved: Tensor | None = None

    def parts(self) -> Iterator[tuple[float, Tensor]]:
        """Each concept's strength and its delta (out, in) at strength 1."""
        for strength, adapter in zip(self.strengths, self.adapters, strict=True):
            yield strength, adapter.delta(self.weight)

    def factors(self) -> list[LowRank | None]:
        """Each concept's strength times its delta as low-rank factors; None for a delta that may have any rank."""
        found = [adapter.factors(self.weight) for adapter in self.adapters]
        return [low_rank and scaled(low_rank, s) for low_rank, s in zip(found, self.strengths, strict=True)]


def scaled(low_rank: LowRank, strength: float) -> LowRank:
    """The product scaled by `strength`, which is multiplied into the smaller factor."""
    if low_rank.up.numel() < low_rank.down.numel():
        return LowRank(strength * low_rank.up, low_rank.down)
    return LowRank(low_rank.up, strength * low_rank.down)


def weighted_sum(site: MergeSite) -> Tensor:
    """Σ λᵢ Δᵢ (out, in): one product of all low-rank factors concatenated, plus the other deltas."""
    factors = site.factors()
    thin = [low_rank for low_rank in factors if low_rank is not None]
    total = stacked(thin).dense() if thin else torch.zeros(site.weight.shape, device=site.weight.device)
    for low_rank, strength, adapter in zip(factors, site.strengths, site.adapters, strict=True):
        if low_rank is None:
            total.add_(adapter.delta(site.weight), alpha=strength)
    return total


def stacked(parts: Sequence[LowRank]) -> LowRank:
    """The sum of low-rank products as one, whose rank is the sum of the ranks."""
    return LowRank(torch.cat([part.up for part in parts], 1), torch.cat([part.down for part in parts]))


MergeMethod = Callable[[MergeSite], Tensor]
"""From a site to the merged delta (out, in)."""


@torch.no_grad()
def merge_concepts(
    method: MergeMethod,
    sites: Mapping[str, Site],
    adapters_by_concept: Mapping[str, Mapping[str, Adapter]],
    strengths: Mapping[str, Strength],
    grams: Mapping[str, Mapping[str, Tensor]] | None = None,
    preserved: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The merged delta (out, in) of every site that a concept adapts, by site name.

    `adapters_by_concept` gives each concept's adapters by site, `strengths` its strength and `grams` the Gram matrices
    (in, in) of its sites' inputs; `preserved` has those of inputs whose outputs should not change. Raises StudioError
    for a concept without a strength or with a site that the base lacks.
    """
    _check(sites, adapters_by_concept, strengths)
    merged = {}
    for name, site in sites.items():
        present = [concept for concept, adapters in adapters_by_concept.items() if name in adapters]
        if present:
            adapters = [adapters_by_concept[concept][name] for concept in present]
            own_grams = None if grams is None else [grams[concept][name] for concept in present]
            own = [strength_at(strengths[concept], name) for concept in present]
            merged[name] = method(MergeSite(site.weight, adapters, own, own_grams, name, (preserved or {}).get(name)))
    return merged


@torch.no_grad()
def merge_biases(
    sites: Mapping[str, Site],
    adapters_by_concept: Mapping[str, Mapping[str, Adapter]],
    strengths: Mapping[str, Strength],
) -> dict[str, Tensor]:
    """The summed change (out,) of every bias that a concept changes, by site name, scaled by the strengths."""
    merged: dict[str, Tensor] = {}
    for concept, adapters in adapters_by_concept.items():
        for name, adapter in adapters.items():
            change = adapter.bias_delta(sites[name].weight, sites[name].bias, strength_at(strengths[concept], name))
            if change is not None:
                merged[name] = merged[name] + change if name in merged else change
    return merged


def _check(
    sites: Mapping[str, Site],
    adapters_by_concept: Mapping[str, Mapping[str, Adapter]],
    strengths: Mapping[str, Strength],
) -> None:
    for concept, adapters in adapters_by_concept.items():
        if concept not in strengths:
            raise StudioError(f"The concept {concept} has no strength. Give one for every merged concept.")
        if missing := next((name for name in adapters if name not in sites), None):
            raise StudioError(f"The base has no layer {missing}, which {concept} adapts. Merge concepts of this base.")
