"""Adapters in a live model: put in, and taken out without a trace."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters import ADAPTERS, Adapter, SiteContext
from studio.decomposition import Decomposition
from studio.errors import StudioError
from studio.sites import Layer, Site

_GEOMETRY = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")


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
    which costs a fraction of unfolding the input.
    """

    def __init__(self, frozen: nn.Conv2d, adapter: Adapter):
        geometry: dict[str, Any] = {name: getattr(frozen, name) for name in _GEOMETRY}
        super().__init__(**geometry, bias=frozen.bias is not None, device="meta")
        self.weight, self.bias, self.adapter = frozen.weight, frozen.bias, adapter

    def forward(self, input: Tensor) -> Tensor:
        """(n, in, h, w) to (n, out, h', w')."""
        low_rank = self.adapter.low_rank(self.weight.flatten(1))
        down = low_rank.down.to(input.dtype).unflatten(1, self.weight.shape[1:])
        hidden = self._conv_forward(input, down, None)
        return super().forward(input) + F.conv2d(hidden, low_rank.up.to(input.dtype)[:, :, None, None])


def _adapted(frozen: Layer, adapter: Adapter) -> AdaptedLinear | AdaptedConv2d:
    return AdaptedLinear(frozen, adapter) if isinstance(frozen, nn.Linear) else AdaptedConv2d(frozen, adapter)


class Injection:
    """Adapters that are in a model, by site name, until `eject` takes them out."""

    def __init__(self, sites: Mapping[str, Site], adapters: Mapping[str, Adapter]):
        self.adapters = dict(adapters)
        self._sites = [sites[name] for name in adapters]
        for site in self._sites:
            setattr(site.parent, site.attribute, _adapted(site.module, adapters[site.name]))

    def eject(self) -> None:
        """Put the frozen layers back; they were never written to. A second call does nothing."""
        for site in self._sites:
            setattr(site.parent, site.attribute, site.module)
        self._sites = []


def inject(sites: Mapping[str, Site], adapters: Mapping[str, Adapter]) -> Injection:
    """Put adapters into the live model at the sites of the same names.

    Raises StudioError, before anything is changed, for a site that the model lacks or that is already
    adapted.
    """
    for name in adapters:
        if name not in sites:
            raise StudioError(f"The model has no layer {name} to adapt: use adapters made for this base.")
        site = sites[name]
        adapted = isinstance(site.module, AdaptedLinear | AdaptedConv2d)
        if adapted or getattr(site.parent, site.attribute) is not site.module:
            raise StudioError(f"{name} is already adapted: eject the adapters that are in the model first.")
    return Injection(sites, adapters)


def create_adapters(
    adapter: str, config: Any, sites: Mapping[str, Site], decomposition: Decomposition, seed: int = 0
) -> dict[str, Adapter]:
    """One fresh adapter of the named method for each site; the seed and the sites' names decide its initial
    values.
    """
    method = method_named(adapter)
    return {
        name: method(
            site.weight,
            config,
            SiteContext(decomposition.columns(name) if method.uses_columns else None, seed, name),
        )
        for name, site in sites.items()
    }


def method_named(adapter: str) -> type[Adapter]:
    """The method of that name in ADAPTERS; StudioError, with the names that there are, if there is none."""
    if adapter not in ADAPTERS:
        raise StudioError(f"There is no adapter called {adapter!r}: choose from {', '.join(ADAPTERS)}.")
    return ADAPTERS[adapter]
