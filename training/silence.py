"""Keeps adapted layers quiet where the concept is not named.

A concept whose layers answer to any prompt moves pictures that do not show it, and blurs every other concept that is
merged with it. Prior pictures tell a training so only at the end of the UNet; here each layer is told for itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from studio.sites import Site


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


_LEAST = torch.finfo(torch.float32).tiny
