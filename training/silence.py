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
    frozen: nn.Module, first: int, moved: list[Tensor], _layer: nn.Module, inputs: Sequence[Tensor], output: Tensor
) -> None:
    before = frozen(inputs[0][first:]).float()
    moved.append((output[first:].float() - before).square().mean() / before.detach().square().mean().clamp(min=_LEAST))
