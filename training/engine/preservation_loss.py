"""The preservation loss: keeps the outputs of adapted layers unchanged on prompts without the concept.

A concept whose layers respond to any prompt changes pictures that do not show it, and degrades every other concept
that is merged with it. The prior loss penalizes this only through the noisy denoising loss; here the output of each
layer, and the model's prediction, are regressed to the base's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from studio.adapters.injection import AdaptedConv2d, AdaptedLinear
from studio.adapters.prefix_tuning import PrefixTuning
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Site

PREDICTION_WEIGHT = 1 / 8
"""The weight of the prediction's squared change, relative to the layers' mean relative output change."""
_LEAST = torch.finfo(torch.float32).tiny


def preservation_loss(changes: Sequence[Tensor], prediction: Tensor, base_prediction: Tensor) -> Tensor:
    """The layers' mean relative output change plus PREDICTION_WEIGHT times the prediction's mean squared change.

    `changes` are the layers' ratios (rows,) of `relative_output_change`, and the predictions (rows, channels, h, w) are
    those with adapters and of the base.
    """
    change = PREDICTION_WEIGHT * (prediction.float() - base_prediction).square().mean()
    return torch.stack([rows.mean() for rows in changes]).mean() + change if changes else change


@contextmanager
def adapters_disabled(sites: Mapping[str, Site]) -> Iterator[None]:
    """While open, the frozen layers replace the adapted ones at these sites."""
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
    """While open, collects each adapted layer's relative change of its output, for the rows of a batch from `first` on.

    That is |y' − y|² / |y|² for a row y' of the layer's output and the frozen layer's output y for the same input; each
    layer that is called appends its rows' ratios, (rows,). They are per-sample, so means over shards of a batch add up.
    """
    changes: list[Tensor] = []
    with ExitStack() as undo:
        for site in hookable_sites(sites):
            layer = getattr(site.parent, site.attribute)
            if isinstance(layer.adapter, PrefixTuning):
                continue  # its output has more rows than the frozen layer's
            products: list[tuple[Tensor, LowRank]] = []
            if isinstance(layer, AdaptedLinear | AdaptedConv2d):
                undo.callback(setattr, layer.adapter, "low_rank_hook", layer.adapter.low_rank_hook)
                layer.adapter.low_rank_hook = lambda *product, products=products: products.append(product)
            collect = partial(_collect, site.module, first, changes, products)
            undo.callback(layer.register_forward_hook(collect).remove)
        yield changes


def hookable_sites(sites: Mapping[str, Site]) -> list[Site]:
    """The sites where the frozen layer can be called besides the adapted one."""
    return [site for site in sites.values() if site.role != "output"]


def _collect(
    frozen: nn.Module,
    first: int,
    changes: list[Tensor],
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
    changes.append(change / size.clamp(min=_LEAST))


def _squares(hidden: Tensor, factors: LowRank, after: Tensor) -> tuple[Tensor, Tensor]:
    """|c|² of the low-rank change c = U h of each row of a layer's output, and |y' − c|² of the frozen output, (rows,).

    `hidden` is (rows, tokens, r), `after` (rows, tokens, out). |U h|² is hᵀ (UᵀU) h, and y'·c is (Uᵀy')·h, so the
    frozen layer is not called and few tensors have the output's width.
    """
    hidden = hidden.float()
    change = ((hidden @ (factors.up.mT @ factors.up)) * hidden).sum((1, 2))
    with torch.no_grad():
        across = ((after @ factors.up.to(after.dtype)).float() * hidden).sum((1, 2))
        size = torch.linalg.vector_norm(after, dim=(1, 2), dtype=torch.float32).square()
        return change, size - 2 * across + change
