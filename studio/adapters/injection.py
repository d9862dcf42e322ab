"""Injects adapters into a live model, and removes them again."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.base import added
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Site

_GEOMETRY = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")


def geometry(convolution: nn.Conv2d) -> dict[str, Any]:
    """The arguments of a Conv2d of the same shape."""
    return {**{name: getattr(convolution, name) for name in _GEOMETRY}, "bias": convolution.bias is not None}


class AdaptedLinear(nn.Linear):
    """A Linear whose output comes from its adapter; weight and bias are the frozen layer's own parameters."""

    def __init__(self, frozen: nn.Linear, adapter: Adapter):
        super().__init__(frozen.in_features, frozen.out_features, frozen.bias is not None, device="meta")
        self.weight, self.bias, self.adapter = frozen.weight, frozen.bias, adapter

    def forward(self, input: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        return self.adapter(input, self.weight, self.bias)


class AdaptedConv2d(nn.Conv2d):
    """A Conv2d with an adapter of its flattened weight (out, in · kh · kw).

    A low-rank change of the flattened weight is a convolution with r channels followed by one of size 1x1,
    which costs a fraction of unfolding the input; any other change is added to the weight.
    """

    def __init__(self, frozen: nn.Conv2d, adapter: Adapter):
        super().__init__(**geometry(frozen), device="meta")
        self.weight, self.bias, self.adapter = frozen.weight, frozen.bias, adapter

    def forward(self, input: Tensor) -> Tensor:
        """(n, in, h, w) to (n, out, h', w')."""
        matrix = self.weight.flatten(1)
        factors = self.adapter.factors(matrix)
        if factors is None:
            weight, bias = self.adapter.changed(matrix, self.bias)
            return self._conv_forward(input, weight.view_as(self.weight), bias)
        bias = added(self.bias, self.adapter.bias_delta(matrix, self.bias), self.weight.dtype)
        output = self._conv_forward(input, self.weight, bias)
        return add_convolved(self, output, input, self.adapter, factors) if factors.rank else output


def add_convolved(layer: nn.Conv2d, output: Tensor, input: Tensor, adapter: Adapter, factors: LowRank) -> Tensor:
    """A convolution's output (n, out, h', w') for an input (n, in, h, w) with an adapter's low-rank change added."""
    down = factors.down.to(input.dtype).unflatten(1, layer.weight.shape[1:])
    hidden = layer._conv_forward(input, down, None)
    if adapter.acts_on_output:
        hidden = adapter.gated(hidden.movedim(1, -1)).movedim(-1, 1)
    adapter.call_hook(hidden.movedim(1, -1).flatten(0, -2), factors)
    return output + F.conv2d(hidden, factors.up.to(input.dtype)[:, :, None, None])


class AdaptedLayerNorm(nn.LayerNorm):
    """A LayerNorm whose weights, seen as (features, 1), and bias are adapted."""

    def __init__(self, frozen: nn.LayerNorm, adapter: Adapter):
        super().__init__(list(frozen.normalized_shape), frozen.eps, bias=frozen.bias is not None, device="meta")
        self.weight, self.bias, self.adapter = frozen.weight, frozen.bias, adapter

    def forward(self, input: Tensor) -> Tensor:
        """(…, features) to the same."""
        weight, bias = self.adapter.changed(self.weight[:, None], self.bias)
        return F.layer_norm(input, self.normalized_shape, weight[:, 0], bias, self.eps)


class AdaptedGroupNorm(nn.GroupNorm):
    """A GroupNorm whose weights, seen as (channels, 1), and bias are adapted."""

    def __init__(self, frozen: nn.GroupNorm, adapter: Adapter):
        super().__init__(frozen.num_groups, frozen.num_channels, frozen.eps, device="meta")
        self.weight, self.bias, self.adapter = frozen.weight, frozen.bias, adapter

    def forward(self, input: Tensor) -> Tensor:
        """(n, channels, …) to the same."""
        weight, bias = self.adapter.changed(self.weight[:, None], self.bias)
        return F.group_norm(input, self.num_groups, weight[:, 0], bias, self.eps)


Adapted = AdaptedLinear | AdaptedConv2d | AdaptedLayerNorm | AdaptedGroupNorm


def _adapted(frozen: nn.Module, adapter: Adapter) -> Adapted:
    match frozen:
        case nn.Linear():
            return AdaptedLinear(frozen, adapter)
        case nn.Conv2d():
            return AdaptedConv2d(frozen, adapter)
        case nn.LayerNorm():
            return AdaptedLayerNorm(frozen, adapter)
        case nn.GroupNorm():
            return AdaptedGroupNorm(frozen, adapter)
    raise StudioError(f"{type(frozen).__name__} cannot be adapted. Only linear layers, convolutions and norms can.")


def change_output(site: Site, change: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """Replace the output (…, d) of the module at an "output" site; call the returned function to undo it.

    A convolution's output (n, d, h, w) is changed as (n, h, w, d). It hooks the module that is there now, so add new
    tokens, which replace the embedding, before.
    """

    def changed(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        if isinstance(site.module, nn.Conv2d):
            return change(output.movedim(1, -1)).movedim(-1, 1)
        return change(output)

    return getattr(site.parent, site.attribute).register_forward_hook(changed).remove


def _insert(site: Site, adapter: Adapter) -> Callable[[], None]:
    """Insert one adapter; call the returned function to remove it."""
    if site.role == "output":
        weight = site.weight
        return change_output(site, lambda output: adapter(output, weight, None))
    setattr(site.parent, site.attribute, _adapted(site.module, adapter))
    return lambda: setattr(site.parent, site.attribute, site.module)


class Injection:
    """The adapters in a model, by site name, until `eject` removes them."""

    def __init__(self, sites: Mapping[str, Site], adapters: Mapping[str, Adapter]):
        self.adapters = dict(adapters)
        self._undo = [_insert(sites[name], adapter) for name, adapter in adapters.items()]

    def eject(self) -> None:
        """Restore the frozen layers, which were never modified. A second call does nothing."""
        for undo in self._undo:
            undo()
        self._undo = []


def inject(sites: Mapping[str, Site], adapters: Mapping[str, Adapter]) -> Injection:
    """Inject adapters into the live model at the sites of the same names.

    Raises StudioError, before anything is changed, for a site that the model lacks or that is already
    adapted.
    """
    for name in adapters:
        if name not in sites:
            raise StudioError(f"The model has no layer {name} to adapt. Use adapters that were made for this base.")
        site = sites[name]
        replaced = site.role != "output" and getattr(site.parent, site.attribute) is not site.module
        if replaced or isinstance(site.module, Adapted):
            raise StudioError(f"{name} is already adapted. Remove the adapters from the model first (`eject`).")
    return Injection(sites, adapters)


@contextmanager
def injected(sites: Mapping[str, Site], adapters: Mapping[str, Adapter]) -> Iterator[None]:
    """While open, the adapters are in the live model."""
    injection = inject(sites, adapters)
    try:
        yield
    finally:
        injection.eject()
