"""Patches merged weights and tokens into a live base, and restores it exactly."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.base import added
from studio.adapters.concept_file import TrainedConcept
from studio.adapters.injection import change_output
from studio.layers.target_modules import Site
from studio.models.base_model import Base
from studio.models.token_embeddings import load_tokens, remove_tokens


@contextmanager
def changed(
    sites: Mapping[str, Site], deltas: Mapping[str, Tensor], biases: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """While open, the layers have these changes of weights (out, in) and biases (out,)."""
    with swapped(sites, changed_layers(sites, deltas, biases or {})):
        yield


Layers = Mapping[str, tuple[Tensor, Tensor | None]]
"""For each site, the weight in the layer's shape, or an output's delta, and the bias."""


def changed_layers(sites: Mapping[str, Site], deltas: Mapping[str, Tensor], biases: Mapping[str, Tensor]) -> Layers:
    """The weights and biases for `swapped`; computed once, they can be used any number of times."""
    return {name: _changed_layer(sites[name], delta, biases.get(name)) for name, delta in deltas.items()}


def _changed_layer(site: Site, delta: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if site.role == "output":
        return delta, None
    layer: Any = site.module
    merged = (layer.weight.float() + delta.view_as(layer.weight)).to(layer.weight.dtype)
    weight = nn.Parameter(merged, requires_grad=False)
    if bias is None:
        return weight, layer.bias
    changed_bias = added(layer.bias, bias, merged.dtype)
    return weight, changed_bias if changed_bias is None else nn.Parameter(changed_bias, requires_grad=False)


@contextmanager
def swapped(sites: Mapping[str, Site], layers: Layers) -> Iterator[None]:
    """While open, the layers have these weights and biases; no tensor is copied."""
    with ExitStack() as undo:
        for name, (weight, bias) in layers.items():
            undo.callback(_swap(sites[name], weight, bias))
        yield


def _swap(site: Site, weight: Tensor, bias: Tensor | None) -> Callable[[], None]:
    if site.role == "output":
        return change_output(site, lambda output: output + F.linear(output, weight.to(output.dtype)))
    layer: Any = site.module
    frozen = (layer.weight, layer.bias)

    def restore() -> None:
        layer.weight, layer.bias = frozen

    layer.weight, layer.bias = weight, bias
    return restore


@contextmanager
def with_tokens(base: Base, concepts: Mapping[str, TrainedConcept]) -> Iterator[None]:
    """While open, the base's tokenizers and text encoders have these concepts' tokens."""
    loaded: list[str] = []
    try:
        for concept in concepts.values():
            for token, parts in concept.tokens.items():
                load_tokens(base.text_encoders, token, parts)
                loaded.append(token)
        yield
    finally:
        for token in reversed(loaded):
            remove_tokens(base.text_encoders, token)
