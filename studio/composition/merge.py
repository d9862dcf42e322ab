"""Merges concepts into a base for generation: adds tokens, merges weights, and restores the base afterwards."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from torch import Tensor

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.checkpoint import TrainedConcept, build_adapters, kinds_of
from studio.adapters.imported import Imported
from studio.adapters.lora import Lora
from studio.composition import MERGES, merge_biases, merge_concepts
from studio.composition.gradient_fusion import fused_deltas
from studio.composition.least_squares import gradient_fusion_delta
from studio.composition.patching import Layers, changed_layers, swapped, with_tokens
from studio.layers.low_rank import thin
from studio.layers.sites import Site
from studio.models.base_model import Base


def default_method(concepts: Mapping[str, TrainedConcept]) -> str:
    """spectral where every concept is spectral_additive, else fedavg."""
    return "spectral" if all(c.adapter == "spectral_additive" for c in concepts.values()) else "fedavg"


@dataclass(frozen=True)
class MergeConfig:
    """The configuration of a merge: the method, by `default_method` if None; a strength for each concept, 1 by
    default; and whether all strengths are divided by the number of concepts, as in the spectral adapters' code.
    """

    method: str | None = None
    strengths: Mapping[str, float] | None = None
    averaged: bool = False

    def method_for(self, concepts: Mapping[str, TrainedConcept]) -> str:
        """The method's name; StudioError if it does not exist."""
        chosen = self.method or default_method(concepts)
        if chosen not in MERGES:
            raise StudioError(f"There is no merge method called {chosen!r}: choose from {', '.join(MERGES)}.")
        return chosen

    def strengths_for(self, concepts: Mapping[str, TrainedConcept]) -> dict[str, float]:
        """The strength of every concept."""
        share = 1 / len(concepts) if self.averaged else 1
        return {name: share * (self.strengths or {}).get(name, 1.0) for name in concepts}


def merged_deltas(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    method: str | None = None,
    strengths: Mapping[str, float] | None = None,
    averaged: bool = False,
) -> dict[str, Tensor]:
    """The merged change (out, in) of each site; strengths not given are 1, and `averaged` divides them by the number
    of concepts. StudioError for an unknown method.
    """
    return merged_changes(base, concepts, MergeConfig(method, strengths, averaged))[0]


def merged_changes(
    base: Base, concepts: Mapping[str, TrainedConcept], merge_config: MergeConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The merged changes of weights (out, in) and of biases (out,), by site name."""
    method, acting = MERGES[merge_config.method_for(concepts)], merge_config.strengths_for(concepts)
    adapters = {name: adapters_of(base, concept) for name, concept in concepts.items()}
    sites = sites_of(base, concepts)
    biases = merge_biases(sites, adapters, acting)
    if method is gradient_fusion_delta and len(concepts) > 1:
        adapted = {name: site for name, site in sites.items() if any(name in own for own in adapters.values())}
        with with_tokens(base, concepts):
            return fused_deltas(base, concepts, adapted, adapters, acting), biases
    return merge_concepts(method, sites, adapters, acting), biases


def adapters_of(base: Base, concept: TrainedConcept) -> dict[str, Adapter]:
    """The concept's adapters on this base, by site name."""
    return build_adapters(concept, base.sites_of(kinds_of(concept)), base.decomposition)


def sites_of(base: Base, concepts: Mapping[str, TrainedConcept]) -> dict[str, Site]:
    """All sites of the kinds that these concepts adapt, by name."""
    return {name: site for c in concepts.values() for name, site in base.sites_of(kinds_of(c)).items()}


def merged_concept(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    method: str | None = None,
    strengths: Mapping[str, float] | None = None,
    averaged: bool = False,
) -> TrainedConcept:
    """Several concepts as one: their merged changes as a LoRA of the ranks' sum, with all of their tokens.

    The LoRA is exact for methods whose merged delta lies in the span of the concepts' own, unless the ranks' sum is
    above the narrowest site's rank, which then is the rank. Raises StudioError when two have the same token.
    """
    tokens = [token for concept in concepts.values() for token in concept.tokens]
    if len(set(tokens)) < len(tokens):
        raise StudioError("Merge each concept once: two of these have the same token.")
    merge_config = MergeConfig(method, strengths, averaged)
    deltas, biases = merged_changes(base, concepts, merge_config)
    sites = sites_of(base, concepts)
    if biases or any(sites[name].role in ("norm", "output") for name in deltas):
        raise StudioError("Name these concepts in the prompt instead: one of them changes more than matrices.")
    rank = min(sum(_exact_rank(base, concept) for concept in concepts.values()), base.decomposition.capacity)
    factors = {name: thin(delta, min(rank, *delta.shape)) for name, delta in deltas.items()}
    states = {name: {"up": low_rank.up, "down": low_rank.down} for name, low_rank in factors.items()}
    adapter, config = "lora", asdict(Lora.Config(rank=rank))
    if any(low_rank.rank < rank for low_rank in factors.values()):  # layers too narrow for one rank
        layers = tuple(dict.fromkeys(kind for concept in concepts.values() for kind in kinds_of(concept)))
        adapter, config = "imported", asdict(Imported.of(layers, states))
    return TrainedConcept(
        base=base.decomposition.fingerprint,
        adapter=adapter,
        config=config,
        adapters=states,
        tokens={token: parts for concept in concepts.values() for token, parts in concept.tokens.items()},
        metadata={
            "merged": list(concepts),
            "method": merge_config.method_for(concepts),
            "strengths": strengths or {},
            **({"averaged": True} if averaged else {}),
        },
    )


def _exact_rank(base: Base, concept: TrainedConcept) -> int:
    sites = base.sites_of(kinds_of(concept))
    return max(adapter.low_rank(sites[name].weight).rank for name, adapter in adapters_of(base, concept).items())


@contextmanager
def applied(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    method: str | None = None,
    strengths: Mapping[str, float] | None = None,
    averaged: bool = False,
) -> Iterator[Base]:
    """While open, these concepts are merged into the base; afterwards it is restored exactly."""
    with MergeCache(base, 0).applied(concepts, MergeConfig(method, strengths, averaged)):
        yield base


@dataclass(frozen=True)
class _Entry:
    concepts: dict[str, TrainedConcept]
    method: str
    strengths: dict[str, float]
    layers: Layers

    def matches(self, concepts: Mapping[str, TrainedConcept], method: str, strengths: dict[str, float]) -> bool:
        same = self.concepts.keys() == concepts.keys() and all(self.concepts[n] is concepts[n] for n in concepts)
        return same and (self.method, self.strengths) == (method, strengths)


class MergeCache:
    """The last `size` merged models of a base, by their concepts, method and strengths.

    Concepts are compared by identity, so callers must reuse the loaded objects.
    """

    def __init__(self, base: Base, size: int = 2):
        self.base, self.size = base, size
        self._entries: list[_Entry] = []

    @contextmanager
    def applied(self, concepts: Mapping[str, TrainedConcept], merge_config: MergeConfig) -> Iterator[Base]:
        """While open, these concepts are merged into the base, by the cache if possible; afterwards it is restored."""
        layers = self._layers(concepts, merge_config) if concepts else {}
        with with_tokens(self.base, concepts), swapped(sites_of(self.base, concepts), layers):
            yield self.base

    def _layers(self, concepts: Mapping[str, TrainedConcept], merge_config: MergeConfig) -> Layers:
        wanted = (concepts, merge_config.method_for(concepts), merge_config.strengths_for(concepts))
        entry = next((entry for entry in self._entries if entry.matches(*wanted)), None)
        if entry is None:
            deltas, biases = merged_changes(self.base, concepts, merge_config)
            layers = changed_layers(sites_of(self.base, concepts), deltas, biases)
            entry = _Entry(dict(concepts), wanted[1], wanted[2], layers)
        rest = [other for other in self._entries if other is not entry]
        self._entries = [entry, *rest][: self.size]
        return entry.layers
