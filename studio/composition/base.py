"""What a merge method is: a pure function from one site's concepts to the merged change of its weight."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from studio.adapters import Adapter
from studio.errors import StudioError
from studio.sites import Site


@dataclass(frozen=True)
class MergeSite:
    """One site of the base, weight (out, in), with the adapters of the concepts to merge and a strength for
    each.
    """

    weight: Tensor
    adapters: Sequence[Adapter]
    strengths: Sequence[float]

    def parts(self) -> Iterator[tuple[float, Tensor]]:
        """Each concept's strength and its delta (out, in) at strength 1."""
        for strength, adapter in zip(self.strengths, self.adapters, strict=True):
            yield strength, adapter.delta(self.weight)


MergeMethod = Callable[[MergeSite], Tensor]
"""From a site to the merged delta (out, in)."""


@torch.no_grad()
def merge_concepts(
    method: MergeMethod,
    sites: Mapping[str, Site],
    adapters_by_concept: Mapping[str, Mapping[str, Adapter]],
    strengths: Mapping[str, float],
) -> dict[str, Tensor]:
    """The merged delta (out, in) of every site that a concept adapts, by site name.

    `adapters_by_concept` gives each concept's adapters by site, `strengths` its strength. Raises StudioError
    for a concept without a strength or with a site that the base lacks.
    """
    _check(sites, adapters_by_concept, strengths)
    merged = {}
    for name, site in sites.items():
        present = [concept for concept, adapters in adapters_by_concept.items() if name in adapters]
        if present:
            adapters = [adapters_by_concept[concept][name] for concept in present]
            merged[name] = method(MergeSite(site.weight, adapters, [strengths[concept] for concept in present]))
    return merged


@torch.no_grad()
def merge_biases(
    sites: Mapping[str, Site],
    adapters_by_concept: Mapping[str, Mapping[str, Adapter]],
    strengths: Mapping[str, float],
) -> dict[str, Tensor]:
    """The summed change (out,) of every bias that a concept changes, by site name; each concept's own scaling."""
    merged: dict[str, Tensor] = {}
    for concept, adapters in adapters_by_concept.items():
        for name, adapter in adapters.items():
            change = adapter.bias_delta(sites[name].weight, sites[name].bias, strengths[concept])
            if change is not None:
                merged[name] = merged[name] + change if name in merged else change
    return merged


def _check(
    sites: Mapping[str, Site],
    adapters_by_concept: Mapping[str, Mapping[str, Adapter]],
    strengths: Mapping[str, float],
) -> None:
    for concept, adapters in adapters_by_concept.items():
        if concept not in strengths:
            raise StudioError(f"Give a strength for {concept}: every merged concept needs one.")
        if missing := next((name for name in adapters if name not in sites), None):
            raise StudioError(f"The base has no layer {missing}, which {concept} adapts: merge concepts of this base.")
