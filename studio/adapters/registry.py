"""Looks up adapter methods by name, and creates one adapter for each site."""

from collections.abc import Mapping
from typing import Any

from concepts.errors import StudioError
from studio.adapters import ADAPTERS, READABLE
from studio.adapters.base import Adapter, SiteContext
from studio.layers.svd_basis import Decomposition
from studio.layers.target_modules import Site


def create_adapters(
    adapter: str, config: Any, sites: Mapping[str, Site], decomposition: Decomposition, seed: int = 0
) -> dict[str, Adapter]:
    """One new adapter of the named method for each site, initialized by the seed and the site's name."""
    method = method_named(adapter)
    columns = decomposition.columns_of(sites) if method.uses_columns else {}
    return {
        name: method(site.weight, config, SiteContext(columns.get(name), seed, name, site.role))
        for name, site in sites.items()
    }


def method_named(adapter: str) -> type[Adapter]:
    """The method of that name in READABLE; StudioError, with the known names, if there is none."""
    if adapter not in READABLE:
        raise StudioError(f"There is no adapter {adapter!r}. Choose from {', '.join(ADAPTERS)}.")
    return READABLE[adapter]
