"""Concepts as a plain LoRA, the format of every other tool: each site's change as two low-rank factors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept
from studio.composition.loaded_concept import LoadedConcept, load_concepts, sites_of
from studio.composition.merge import merged_changes
from studio.composition.merge_config import MergeConfig
from studio.composition.output_changes import refuse_unexportable
from studio.layers.low_rank import LowRank, thin
from studio.models.base_model import Base
from studio.models.layer_strengths import Strength, strength_at

DEFAULT_RANK = 64
"""The default rank of a change that may have any rank."""
EXACT = 1e-6
"""Below this relative error a LoRA counts as exact."""


@dataclass(frozen=True)
class LoraApproximation:
    """Concepts as a plain LoRA: factors and changes of biases (out,) by site, and the tokens' vectors by part.

    `error` is the relative error of the factors, in the Frobenius norm over all sites.
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
        """Whether the factors equal the changes to float32 precision."""
        return self.error < EXACT


@torch.no_grad()
def approximate_lora(
    base: Base, concepts: Mapping[str, TrainedConcept], config: MergeConfig | None = None, rank: int | None = None
) -> LoraApproximation:
    """One concept, or several merged, as a LoRA of at most `rank`: exact where the changes have low rank.

    A change that may have any rank gets the best LoRA of `rank`, DEFAULT_RANK if None. Raises StudioError for a
    concept that changes norms or embeddings, or only biases, since no LoRA can represent those.
    """
    if rank is not None and rank < 1:
        raise StudioError(f"rank {rank} is too low. Choose 1 or more.")
    config, loaded = config or MergeConfig(), load_concepts(base, concepts)
    if {"norm", "output"} & {site.role for concept in loaded.values() for site in concept.sites.values()}:
        raise StudioError(
            "No LoRA can represent changes of norms, biases or embeddings, which this concept has. Export "
            "it with --format full."
        )
    refuse_unexportable(loaded)
    if len(concepts) == 1:
        ((name, concept),) = loaded.items()
        pieces, biases = _of_one(concept, config.strengths_for(concepts)[name], rank)
    else:
        pieces, biases = _of_merge(base, loaded, config, rank)
    total = sum(piece.size for piece in pieces.values())
    error = (sum(piece.squared_error for piece in pieces.values()) / total) ** 0.5 if total else 0.0
    tokens = {token: parts for concept in concepts.values() for token, parts in concept.tokens.items()}
    return LoraApproximation({name: piece.low_rank for name, piece in pieces.items()}, biases, tokens, error)


@dataclass(frozen=True)
class _Piece:
    """A site's factors, and the squared norms of its change and of the approximation error."""

    low_rank: LowRank
    size: float
    squared_error: float


def _of_one(
    concept: LoadedConcept, strengths: Strength, rank: int | None
) -> tuple[dict[str, _Piece], dict[str, Tensor]]:
    pieces, biases, sites = {}, {}, concept.sites
    for name, adapter in concept.modules.items():
        weight, bias, strength = sites[name].weight, sites[name].bias, strength_at(strengths, name)
        change = adapter.bias_delta(weight, bias, strength)
        if change is not None:
            biases[name] = change
        factors = adapter.factors(weight, strength)
        if factors is not None and factors.rank <= min(rank or factors.rank, *weight.shape):
            pieces[name] = _Piece(factors, _square(factors), 0.0)
        else:
            pieces[name] = _approximated(adapter.delta(weight, strength), rank or DEFAULT_RANK)
    return pieces, biases


def _square(factors: LowRank) -> float:
    """The squared Frobenius norm of the product, from the factors alone."""
    return float(((factors.up.mT @ factors.up) * (factors.down @ factors.down.mT)).sum())


def _of_merge(
    base: Base, concepts: Mapping[str, LoadedConcept], config: MergeConfig, rank: int | None
) -> tuple[dict[str, _Piece], dict[str, Tensor]]:
    deltas, biases = merged_changes(base, concepts, config)
    adapters, sites = [concept.modules for concept in concepts.values()], sites_of(concepts)
    pieces = {}
    for name, delta in deltas.items():
        found = [own[name].factors(sites[name].weight) for own in adapters if name in own]
        exact = sum(DEFAULT_RANK if factors is None else factors.rank for factors in found)
        pieces[name] = _approximated(delta, rank or exact)
    return pieces, biases


def _approximated(delta: Tensor, rank: int) -> _Piece:
    low_rank = thin(delta, min(rank, *delta.shape))
    return _Piece(low_rank, float(delta.square().sum()), float((delta - low_rank.dense()).square().sum()))
