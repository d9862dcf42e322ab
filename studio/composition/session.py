"""A base with concepts in it, ready to paint: tokens added, weights merged, and all of it taken out again."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters import Adapter
from studio.adapters.base import added
from studio.adapters.lora import Lora
from studio.checkpoint import TrainedConcept, build_adapters, kinds_of
from studio.composition import MERGES, merge_biases, merge_concepts
from studio.diffusion import Base
from studio.errors import StudioError
from studio.injection import change_output
from studio.low_rank import truncated
from studio.sites import Site
from studio.tokens import load_token, remove_token


def default_method(concepts: Mapping[str, TrainedConcept]) -> str:
    """The joint spectral form where every concept allows it, else the sum."""
    return "spectral" if all(c.adapter == "spectral_additive" for c in concepts.values()) else "fedavg"


def merged_deltas(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    method: str | None = None,
    strengths: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """The merged change (out, in) of each site; strengths not given are 1. StudioError for an unknown method."""
    return _merged(base, concepts, method, strengths)[0]


def _merged(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    method: str | None,
    strengths: Mapping[str, float] | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The merged changes of weights (out, in) and of biases (out,), by site name."""
    chosen = method or default_method(concepts)
    if chosen not in MERGES:
        raise StudioError(f"There is no merge method called {chosen!r}: choose from {', '.join(MERGES)}.")
    adapters = {name: adapters_of(base, concept) for name, concept in concepts.items()}
    acting = {name: (strengths or {}).get(name, 1.0) for name in concepts}
    sites = _sites(base, concepts)
    return merge_concepts(MERGES[chosen], sites, adapters, acting), merge_biases(sites, adapters, acting)


def adapters_of(base: Base, concept: TrainedConcept) -> dict[str, Adapter]:
    """The concept's adapters on this base, by site name."""
    return build_adapters(concept, base.sites_of(kinds_of(concept)), base.decomposition)


def _sites(base: Base, concepts: Mapping[str, TrainedConcept]) -> dict[str, Site]:
    return {name: site for c in concepts.values() for name, site in base.sites_of(kinds_of(c)).items()}


def merged_concept(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    method: str | None = None,
    strengths: Mapping[str, float] | None = None,
) -> TrainedConcept:
    """Several concepts as one: their merged changes as a LoRA of the ranks' sum, with all of their tokens.

    The LoRA is exact unless the sum is above what the narrowest site has, which then is its rank. Raises StudioError
    when two bring the same token.
    """
    tokens = [token for concept in concepts.values() for token in concept.tokens]
    if len(set(tokens)) < len(tokens):
        raise StudioError("Merge each concept once: two of these bring the same token.")
    deltas, biases = _merged(base, concepts, method, strengths)
    sites = _sites(base, concepts)
    if biases or any(sites[name].role in ("norm", "output") for name in deltas):
        raise StudioError("Name these concepts in the prompt instead: one of them changes more than matrices.")
    rank = min(sum(_exact_rank(base, concept) for concept in concepts.values()), base.decomposition.capacity)
    factors = {name: truncated(delta, rank) for name, delta in deltas.items()}
    return TrainedConcept(
        base=base.decomposition.fingerprint,
        adapter="lora",
        config=asdict(Lora.Config(rank=rank)),
        adapters={name: {"up": low_rank.up, "down": low_rank.down} for name, low_rank in factors.items()},
        tokens={token: parts for concept in concepts.values() for token, parts in concept.tokens.items()},
        metadata={"merged": list(concepts), "method": method or default_method(concepts), "strengths": strengths or {}},
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
) -> Iterator[Base]:
    """While open, the base knows these concepts; afterwards it is bit for bit what it was."""
    deltas, biases = _merged(base, concepts, method, strengths) if concepts else ({}, {})
    with _tokens(base, concepts), _changes(_sites(base, concepts), deltas, biases):
        yield base


@contextmanager
def _changes(sites: Mapping[str, Site], deltas: Mapping[str, Tensor], biases: Mapping[str, Tensor]) -> Iterator[None]:
    with ExitStack() as undo:
        for name, delta in deltas.items():
            undo.callback(_change(sites[name], delta, biases.get(name)))
        yield


def _change(site: Site, delta: Tensor, bias: Tensor | None) -> Callable[[], None]:
    """Puts a change into a layer; what is returned takes it out to the bit."""
    if site.role == "output":
        return change_output(site, lambda output: output + F.linear(output, delta.to(output.dtype)))
    layer: Any = site.module
    frozen = (layer.weight, layer.bias)

    def restore() -> None:
        layer.weight, layer.bias = frozen

    merged = (layer.weight.float() + delta.view_as(layer.weight)).to(layer.weight.dtype)
    layer.weight = nn.Parameter(merged, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(added(layer.bias, bias, merged.dtype), requires_grad=False)  # pyright: ignore[reportArgumentType]
    return restore


@contextmanager
def _tokens(base: Base, concepts: Mapping[str, TrainedConcept]) -> Iterator[None]:
    tokenizer, encoder = base.pipeline.tokenizer, base.pipeline.text_encoder
    loaded: list[str] = []
    try:
        for concept in concepts.values():
            for token, parts in concept.tokens.items():
                load_token(tokenizer, encoder, token, parts["text_encoder"])
                loaded.append(token)
        yield
    finally:
        for token in reversed(loaded):
            remove_token(tokenizer, encoder, token)
