"""Gram matrices of layers' inputs, accumulated while the model runs."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from concepts.errors import StudioError
from studio.layers.target_modules import Site


def gram(rows: Tensor) -> Tensor:
    """Xᵀ X (in, in) of inputs (…, in), in float32 also where autocast computes with less."""
    with torch.autocast(rows.device.type, enabled=False):
        flat = rows.detach().float().flatten(0, -2)
        return flat.mT @ flat


class GramRecorder:
    """Accumulates the Gram matrices of layers' inputs. Layers with the same input tensor share the product."""

    def __init__(self) -> None:
        self.grams: dict[str, Tensor] = {}
        self._last: tuple[Tensor, Tensor] | None = None

    def add(self, name: str, layer: nn.Module, inputs: Tensor) -> None:
        """Add the next input of the layer of this name."""
        if self._last is None or self._last[0] is not inputs:
            self._last = inputs, gram(_as_rows(layer, inputs))
        product = self._last[1]
        self.grams[name] = self.grams[name] + product if name in self.grams else product


def _as_rows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """The rows that the layer's matrix is multiplied with, (…, in); for a convolution, the unfolded patches."""
    if not isinstance(layer, nn.Conv2d):
        return inputs
    padding: Any = layer.padding
    return F.unfold(inputs, layer.kernel_size, layer.dilation, padding, layer.stride).mT


@contextmanager
def recorded(sites: Mapping[str, Site]) -> Iterator[dict[str, Tensor]]:
    """While open, accumulates the Gram matrices (in, in) of these sites' inputs in the yielded dictionary, by site
    name.

    It hooks the layers that are at the sites now. StudioError for a site that is not a matrix.
    """
    recorder = GramRecorder()
    with ExitStack() as undo:
        for name, site in sites.items():
            if site.role in ("norm", "output"):
                raise StudioError(
                    f"gradient_fusion cannot merge {name}, which is not a weight matrix. Merge these concepts with "
                    "fedavg."
                )
            layer = getattr(site.parent, site.attribute)
            hook = layer.register_forward_pre_hook(
                lambda module, inputs, name=name: recorder.add(name, module, inputs[0])
            )
            undo.callback(hook.remove)
        yield recorder.grams
