"""Concepts as a plain LoRA, which every other tool reads: each site's change as two thin factors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.checkpoint import TrainedConcept
from studio.composition.merge import MergeConfig, adapters_of, merged_changes, sites_of
from studio.layers.low_rank import LowRank, thin
from studio.layers.sites import Site
from studio.models.base_model import Base

DEFAULT_RANK = 64
"""The rank of a change that may have any, where no other is asked for."""
EXACT = 1e-6
"""Below this relative error a LoRA counts as exact."""


@dataclass(frozen=True)
class LoraApproximation:
    """Concepts as a plain LoRA: factors and changes of biases (out,) by site, and the tokens' vectors by part.

    `error` is how far the factors are from the changes, in the Frobenius norm of all sites together, relative.
    """

    factors: dict[str, LowRank]
    biases: dict[str, Tensor]
    tokens: dict[str, dict[str, Tensor]]
    error: float

    @property
    def rank(self) -> int:
        """The largest rank of a site."""
        return max((low_rank.rank for low_rank in self.factors.values()), default=0)

    @property
    def exact(self) -> bool:
        """Whether the factors are the changes, as far as float32 goes."""
        return self.error < EXACT


@torch.no_grad()
def approximate_lora(
    base: Base, concepts: Mapping[str, TrainedConcept], plan: MergeConfig | None = None, rank: int | None = None
) -> LoraApproximation:
    """One concept, or several merged, as a LoRA: exact where the changes have low rank, and of `rank` at most.

    A change that may have any rank gets the best LoRA of `rank`, DEFAULT_RANK if None. Raises StudioError for a
    concept that changes norms or embeddings, or biases alone, since no LoRA can hold those.
    """
    if rank is not None and rank < 1:
        raise StudioError(f"Choose a rank of 1 or more: {rank} is too small.")
    plan, sites = plan or MergeConfig(), sites_of(base, concepts)
    adapted = [sites[name].role for concept in concepts.values() for name in concept.adapters]
    if {"norm", "output"} & set(adapted):
        raise StudioError("Export it with --format full: it changes norms, biases or embeddings, which no LoRA holds.")
    if len(concepts) == 1:
        ((name, concept),) = concepts.items()
        strength = plan.strengths_for(concepts)[name]
        pieces, biases = _of_one(adapters_of(base, concept), sites, strength, rank)
    else:
        pieces, biases = _of_merge(base, concepts, plan, sites, rank)
    total = sum(piece.size for piece in pieces.values())
    error = (sum(piece.missed for piece in pieces.values()) / total) ** 0.5 if total else 0.0
    tokens = {token: parts for concept in concepts.values() for token, parts in concept.tokens.items()}
    return LoraApproximation({name: piece.low_rank for name, piece in pieces.items()}, biases, tokens, error)


@dataclass(frozen=True)
class _Piece:
    """A site's factors, and the squared norms of its change and of what the factors miss of it."""

    low_rank: LowRank
    size: float
    missed: float


def _of_one(
    adapters: Mapping[str, Adapter], sites: Mapping[str, Site], strength: float, rank: int | None
) -> tuple[dict[str, _Piece], dict[str, Tensor]]:
    pieces, biases = {}, {}
    for name, adapter in adapters.items():
        weight, bias = sites[name].weight, sites[name].bias
        change = adapter.bias_delta(weight, bias, strength)
        if change is not None:
            biases[name] = change
        factors = adapter.factors(weight, strength)
        if factors is not None and factors.rank <= min(rank or factors.rank, *weight.shape):
            pieces[name] = _Piece(factors, _square(factors), 0.0)
        else:
            pieces[name] = _nearest(adapter.delta(weight, strength), rank or DEFAULT_RANK)
    return pieces, biases


def _square(factors: LowRank) -> float:
    """The squared Frobenius norm of the product, from the factors alone."""
    return float(((factors.up.mT @ factors.up) * (factors.down @ factors.down.mT)).sum())


def _of_merge(
    base: Base, concepts: Mapping[str, TrainedConcept], plan: MergeConfig, sites: Mapping[str, Site], rank: int | None
) -> tuple[dict[str, _Piece], dict[str, Tensor]]:
    deltas, biases = merged_changes(base, concepts, plan)
    adapters = [adapters_of(base, concept) for concept in concepts.values()]
    pieces = {}
    for name, delta in deltas.items():
        found = [own[name].factors(sites[name].weight) for own in adapters if name in own]
        exact = sum(DEFAULT_RANK if factors is None else factors.rank for factors in found)
        pieces[name] = _nearest(delta, rank or exact)
    return pieces, biases


def _nearest(delta: Tensor, rank: int) -> _Piece:
    low_rank = thin(delta, min(rank, *delta.shape))
    return _Piece(low_rank, float(delta.square().sum()), float((delta - low_rank.dense()).square().sum()))
