"""Merges concepts into a base for generation: adds tokens, merges weights, and restores the base afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept, kinds_of
from studio.adapters.imported import Imported
from studio.adapters.lora import Lora
from studio.composition import MERGES, MergeMethod, merge_biases, merge_concepts
from studio.composition.gradient_fusion_model import fused_deltas
from studio.composition.loaded_concept import LoadedConcept, load_concepts, sites_of
from studio.composition.merge_config import OF_ACTIVATIONS, MergeConfig
from studio.composition.output_changes import (
    OutputChange,
    output_changes,
    outputs_changed,
    refuse_output_changes,
)
from studio.composition.patching import Layers, changed_layers, swapped, with_tokens
from studio.layers.low_rank import thin
from studio.layers.target_modules import Site
from studio.models.base_model import Base
from studio.models.layer_strengths import Strength


def merged_deltas(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    method: str | None = None,
    strengths: Mapping[str, Strength] | None = None,
    averaged: bool = False,
) -> dict[str, Tensor]:
    """The merged change (out, in) of each site; strengths not given are 1, and `averaged` divides them by the number
    of concepts. StudioError for an unknown method.
    """
    return merged_changes(base, concepts, MergeConfig(method, strengths, averaged))[0]


def merged_changes(
    base: Base, concepts: Mapping[str, TrainedConcept], config: MergeConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The merged changes of weights (out, in) and of biases (out,), by site name; `output_changes` has the rest."""
    name, acting = config.method_for(concepts), config.strengths_for(concepts)
    method: MergeMethod = partial(MERGES[name], **config.parameters) if config.parameters else MERGES[name]
    loaded = load_concepts(base, concepts)
    adapters, sites = {name: concept.weight_adapters for name, concept in loaded.items()}, sites_of(loaded)
    biases = merge_biases(sites, adapters, acting)
    if name in OF_ACTIVATIONS and len(concepts) > 1:
        adapted = {name: site for name, site in sites.items() if any(name in own for own in adapters.values())}
        with with_tokens(base, concepts):
            return fused_deltas(base, concepts, adapted, adapters, acting, method, OF_ACTIVATIONS[name]), biases
    return merge_concepts(method, sites, adapters, acting), biases


def merged_concept(
    base: Base, concepts: Mapping[str, TrainedConcept], config: MergeConfig | None = None
) -> TrainedConcept:
    """Several concepts as one: their merged changes as a LoRA of the ranks' sum, with all of their tokens.

    The LoRA is exact for methods whose merged delta lies in the span of the concepts' own, unless the ranks' sum is
    above the narrowest site's rank, which then is the rank. Raises StudioError when two have the same token.
    """
    tokens = [token for concept in concepts.values() for token in concept.tokens]
    if len(set(tokens)) < len(tokens):
        raise StudioError("Two of these concepts have the same token. Merge each concept once.")
    config, loaded = config or MergeConfig(), load_concepts(base, concepts)
    refuse_output_changes(loaded)
    deltas, biases = merged_changes(base, loaded, config)
    sites = sites_of(loaded)
    if biases or any(sites[name].role in ("norm", "output") for name in deltas):
        raise StudioError(
            "One of these concepts changes norms, biases or embeddings, which a merged file cannot contain. "
            "Name the concepts in the prompt instead, or use studio export --format full."
        )
    rank = min(sum(map(_exact_rank, loaded.values())), base.decomposition.capacity)
    adapter, options, states = _as_lora(concepts, deltas, rank) if deltas else ("textual_inversion", {}, {})
    return TrainedConcept(
        base=base.decomposition.fingerprint,
        adapter=adapter,
        config=options,
        adapters=states,
        tokens={token: parts for concept in concepts.values() for token, parts in concept.tokens.items()},
        metadata={
            "merged": list(concepts),
            "method": config.method_for(concepts),
            "strengths": config.strengths or {},
            **({"averaged": True} if config.averaged else {}),
            **config.parameters,
        },
    )


def _as_lora(
    concepts: Mapping[str, TrainedConcept], deltas: Mapping[str, Tensor], rank: int
) -> tuple[str, dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The adapter's name, its options and its tensors by site, of merged changes (out, in) as a LoRA of this rank."""
    factors = {name: thin(delta, min(rank, *delta.shape)) for name, delta in deltas.items()}
    states = {name: {"up": low_rank.up, "down": low_rank.down} for name, low_rank in factors.items()}
    if all(low_rank.rank == rank for low_rank in factors.values()):
        return "lora", asdict(Lora.Config(rank=rank)), states
    layers = tuple(dict.fromkeys(kind for concept in concepts.values() for kind in kinds_of(concept)))
    return "imported", asdict(Imported.of(layers, states)), states  # layers too narrow for one rank


def _exact_rank(concept: LoadedConcept) -> int:
    sites = concept.sites
    return max((adapter.low_rank(sites[name].weight).rank for name, adapter in concept.modules.items()), default=0)


@contextmanager
def applied(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    method: str | None = None,
    strengths: Mapping[str, Strength] | None = None,
    averaged: bool = False,
) -> Iterator[Base]:
    """While open, these concepts are merged into the base; afterwards it is restored exactly."""
    with MergeCache(base, 0).applied(concepts, MergeConfig(method, strengths, averaged)):
        yield base


@dataclass(frozen=True)
class _Entry:
    concepts: dict[str, TrainedConcept]
    config: tuple[object, ...]
    sites: Mapping[str, Site]
    layers: Layers
    outputs: Sequence[OutputChange]

    def matches(self, concepts: Mapping[str, TrainedConcept], config: tuple[object, ...]) -> bool:
        same = self.concepts.keys() == concepts.keys() and all(self.concepts[n] is concepts[n] for n in concepts)
        return same and self.config == config


class MergeCache:
    """The last `size` merged models of a base, by their concepts, method, its parameters and strengths.

    Concepts are compared by identity, so callers must reuse the loaded objects.
    """

    def __init__(self, base: Base, size: int = 2):
        self.base, self.size = base, size
        self._entries: list[_Entry] = []

    @contextmanager
    def applied(self, concepts: Mapping[str, TrainedConcept], config: MergeConfig) -> Iterator[Base]:
        """While open, these concepts are merged into the base, by the cache if possible; afterwards it is restored."""
        with ExitStack() as stack:
            if concepts:
                merged = self._merged(concepts, config)
                stack.enter_context(with_tokens(self.base, concepts))
                stack.enter_context(swapped(merged.sites, merged.layers))
                stack.enter_context(outputs_changed(merged.outputs))
            yield self.base

    def _merged(self, concepts: Mapping[str, TrainedConcept], config: MergeConfig) -> _Entry:
        wanted = (config.method_for(concepts), config.strengths_for(concepts), config.parameters)
        entry = next((entry for entry in self._entries if entry.matches(concepts, wanted)), None)
        if entry is None:
            loaded = load_concepts(self.base, concepts)
            sites, (deltas, biases) = sites_of(loaded), merged_changes(self.base, loaded, config)
            outputs = output_changes(loaded, config.strengths_for(concepts))
            entry = _Entry(dict(concepts), wanted, sites, changed_layers(sites, deltas, biases), outputs)
        rest = [other for other in self._entries if other is not entry]
        self._entries = [entry, *rest][: self.size]
        return entry
