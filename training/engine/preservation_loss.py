"""Keeps adapted layers quiet where the concept is not named.

A concept whose layers answer to any prompt moves pictures that do not show it, and blurs every other concept that is
merged with it. Prior pictures say so through the noise of the denoising loss; here each layer, and the prediction that
they all make, is held to what the base gave.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from studio.adapters.injection import AdaptedConv2d, AdaptedLinear
from studio.layers.low_rank import LowRank
from studio.layers.sites import Site

_LEAST = torch.finfo(torch.float32).tiny


@contextmanager
def adapters_disabled(sites: Mapping[str, Site]) -> Iterator[None]:
    """While open, the frozen layers stand at these sites, and no adapter acts."""
    adapted = [(site, getattr(site.parent, site.attribute)) for site in hookable_sites(sites)]
    try:
        for site, _ in adapted:
            setattr(site.parent, site.attribute, site.module)
        yield
    finally:
        for site, layer in adapted:
            setattr(site.parent, site.attribute, layer)


@contextmanager
def relative_output_change(sites: Mapping[str, Site], first: int) -> Iterator[list[Tensor]]:
    """While open, collects how far each adapted layer moves the rows of a batch from `first` on.

    That is |y' − y|² / |y|² for a row y' of the layer's output and what the frozen layer makes of the same row, y; each
    layer that is called adds its rows' ratios, (rows,). As means over rows they add up from any parts of a batch.
    """
    moved: list[Tensor] = []
    with ExitStack() as undo:
        for site in hookable_sites(sites):
            layer = getattr(site.parent, site.attribute)
            products: list[tuple[Tensor, LowRank]] = []
            if isinstance(layer, AdaptedLinear | AdaptedConv2d):
                undo.callback(setattr, layer.adapter, "listener", layer.adapter.listener)
                layer.adapter.listener = lambda *product, products=products: products.append(product)
            collect = partial(_collect, site.module, first, moved, products)
            undo.callback(layer.register_forward_hook(collect).remove)
        yield moved


def hookable_sites(sites: Mapping[str, Site]) -> list[Site]:
    """The sites whose frozen layer can be asked beside the adapted one."""
    return [site for site in sites.values() if site.role != "output"]


def _collect(
    frozen: nn.Module,
    first: int,
    moved: list[Tensor],
    products: list[tuple[Tensor, LowRank]],
    layer: Any,
    inputs: Sequence[Tensor],
    output: Tensor,
) -> None:
    rows, after = inputs[0][first:], output[first:]
    product = products.pop() if products else None
    if product and layer.adapter.bias_delta(layer.weight.flatten(1), layer.bias) is None:
        hidden, factors = product
        last = after.movedim(1, -1) if isinstance(layer, nn.Conv2d) else after
        hidden = hidden.unflatten(0, (len(output), -1))[first:]
        change, size = _squares(hidden, factors, last.reshape(*hidden.shape[:2], -1))
    else:
        before = frozen(rows).float()
        change, size = (each.flatten(1).square().sum(1) for each in (after.float() - before, before.detach()))
    moved.append(change / size.clamp(min=_LEAST))


def _squares(hidden: Tensor, factors: LowRank, after: Tensor) -> tuple[Tensor, Tensor]:
    """|c|² of what a layer adds to each row of its output, c = U h, and |y' − c|², the frozen layer's, both (rows,).

    `hidden` is (rows, tokens, r), `after` (rows, tokens, out). |U h|² is hᵀ (UᵀU) h, and y'·c is (Uᵀy')·h, which spares
    the frozen layer and most of what is of the output's width.
    """
    hidden = hidden.float()
    change = ((hidden @ (factors.up.mT @ factors.up)) * hidden).sum((1, 2))
    with torch.no_grad():
        across = ((after @ factors.up.to(after.dtype)).float() * hidden).sum((1, 2))
        size = torch.linalg.vector_norm(after, dim=(1, 2), dtype=torch.float32).square()
        return change, size - 2 * across + change
