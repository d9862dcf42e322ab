"""A base with concepts in it, ready to paint: tokens added, weights merged, and all of it taken out again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from torch import Tensor, nn

from studio.adapters import Adapter
from studio.adapters.lora import Lora
from studio.checkpoint import TrainedConcept, build_adapters
from studio.composition import MERGES, merge_concepts
from studio.diffusion import Base
from studio.errors import StudioError
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
    chosen = method or default_method(concepts)
    if chosen not in MERGES:
        raise StudioError(f"There is no merge method called {chosen!r}: choose from {', '.join(MERGES)}.")
    adapters: dict[str, dict[str, Adapter]] = {
        name: build_adapters(concept, base.sites, base.decomposition) for name, concept in concepts.items()
    }
    given = strengths or {}
    return merge_concepts(MERGES[chosen], base.sites, adapters, {name: given.get(name, 1.0) for name in concepts})


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
    deltas = merged_deltas(base, concepts, method, strengths)
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
    adapters = build_adapters(concept, base.sites, base.decomposition)
    return max(adapter.low_rank(base.sites[name].weight).rank for name, adapter in adapters.items())


@contextmanager
def applied(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    method: str | None = None,
    strengths: Mapping[str, float] | None = None,
) -> Iterator[Base]:
    """While open, the base knows these concepts; afterwards it is bit for bit what it was."""
    deltas = merged_deltas(base, concepts, method, strengths) if concepts else {}
    with _tokens(base, concepts), _weights(base.sites, deltas):
        yield base


@contextmanager
def _weights(sites: Mapping[str, Site], deltas: Mapping[str, Tensor]) -> Iterator[None]:
    frozen = {name: sites[name].module.weight for name in deltas}
    try:
        for name, delta in deltas.items():
            merged = (frozen[name] + delta.view_as(frozen[name])).to(frozen[name].dtype)
            sites[name].module.weight = nn.Parameter(merged, requires_grad=False)
        yield
    finally:
        for name, weight in frozen.items():
            sites[name].module.weight = weight


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
