"""Keeps adapted layers quiet where the concept is not named.

A concept whose layers answer to any prompt moves pictures that do not show it, and blurs every other concept that is
merged with it. Prior pictures say so through the noise of the denoising loss; here each layer, and the prediction that
they all make, is held to what the base gave.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from studio.injection import AdaptedConv2d, AdaptedLinear
from studio.sites import Site

_LEAST = torch.finfo(torch.float32).tiny


@contextmanager
def without(sites: Mapping[str, Site]) -> Iterator[None]:
    """While open, the frozen layers stand at these sites, and no adapter acts."""
    adapted = [(site, getattr(site.parent, site.attribute)) for site in watchable(sites)]
    try:
        for site, _ in adapted:
            setattr(site.parent, site.attribute, site.module)
        yield
    finally:
        for site, layer in adapted:
            setattr(site.parent, site.attribute, layer)


@contextmanager
def unrest(sites: Mapping[str, Site], first: int) -> Iterator[list[Tensor]]:
    """While open, collects how far each adapted layer moves the rows of a batch from `first` on.

    That is |y' − y|² / |y|² for the layer's output y' and what the frozen layer makes of the same rows, y.
    """
    moved: list[Tensor] = []
    with ExitStack() as undo:
        for site in watchable(sites):
            layer = getattr(site.parent, site.attribute)
            undo.callback(layer.register_forward_hook(partial(_collect, site.module, first, moved)).remove)
        yield moved


def watchable(sites: Mapping[str, Site]) -> list[Site]:
    """The sites whose frozen layer can be asked beside the adapted one."""
    return [site for site in sites.values() if site.role != "output"]


def _collect(
    frozen: nn.Module, first: int, moved: list[Tensor], layer: nn.Module, inputs: Sequence[Tensor], output: Tensor
) -> None:
    rows, after = inputs[0][first:], output[first:].float()
    squares = _low_rank_squares(layer, rows, after)
    if squares is None:
        before = frozen(rows).float()
        squares = (after - before).square().sum(), before.detach().square().sum()
    change, size = squares
    moved.append(change / size.clamp(min=_LEAST))


def _low_rank_squares(layer: nn.Module, inputs: Tensor, after: Tensor) -> tuple[Tensor, Tensor] | None:
    """|c|² of what the layer adds to its output and |y' − c|², where c is a product of thin factors alone, c = U h.

    |U h|² is hᵀ (UᵀU) h, and y'·c is (Uᵀy')·h, which spares the frozen layer and most of what is of the output's width.
    """
    if not isinstance(layer, AdaptedLinear | AdaptedConv2d):
        return None
    matrix = layer.weight.flatten(1)
    factors = layer.adapter.factors(matrix)
    if factors is None or factors.rank == 0 or layer.adapter.bias_delta(matrix, layer.bias) is not None:
        return None
    hidden = layer.hidden(inputs, factors).flatten(0, -2).float()
    change = torch.einsum("nr,ns,rs->", hidden, hidden, factors.up.mT @ factors.up)
    with torch.no_grad():
        last = after.movedim(1, -1) if isinstance(layer, nn.Conv2d) else after
        across = (last.flatten(0, -2) @ factors.up * hidden).sum()
        return change, after.square().sum() - 2 * across + change
