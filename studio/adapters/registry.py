"""Adapters by name: the method of a name, and one fresh adapter for each site."""

from collections.abc import Mapping
from typing import Any

from concepts.errors import StudioError
from studio.adapters import ADAPTERS, READABLE
from studio.adapters.base import Adapter, SiteContext
from studio.layers.sites import Site
from studio.layers.svd_basis import Decomposition


def create_adapters(
    adapter: str, config: Any, sites: Mapping[str, Site], decomposition: Decomposition, seed: int = 0
) -> dict[str, Adapter]:
    """One fresh adapter of the named method for each site; the seed and the sites' names decide its initial
    values.
    """
    method = method_named(adapter)
    columns = decomposition.columns_of(sites) if method.uses_columns else {}
    return {
        name: method(site.weight, config, SiteContext(columns.get(name), seed, name, site.role))
        for name, site in sites.items()
    }


def method_named(adapter: str) -> type[Adapter]:
    """The method of that name in READABLE; StudioError, with the names that there are, if there is none."""
    if adapter not in READABLE:
        raise StudioError(f"There is no adapter called {adapter!r}: choose from {', '.join(ADAPTERS)}.")
    return READABLE[adapter]
