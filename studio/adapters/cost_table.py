"""What every method costs on a model, and what it can do, as a table.

`python -m studio.adapters.cost_table` stores the tables that ship.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from concepts.errors import StudioError
from concepts.storage import atomic_write
from studio.adapters import ADAPTERS
from studio.adapters.cost import cost
from studio.bundled import ADAPTER_COSTS
from studio.formats.method_capabilities import capabilities
from studio.layers.target_modules import Site, find_sites
from studio.models.architectures import ARCHITECTURES, architecture_parts
from studio.models.loading import default_target_modules


def cost_table(
    parts: Mapping[str, nn.Module], target_modules: tuple[str, ...] = ("attention",), rank: int | None = None
) -> dict[str, dict[str, Any]]:
    """For every method its options, the number of its sites, its `Cost` and its `capabilities`; or, as "refused", why
    it does not fit.

    `target_modules` are the kinds of layers for the methods that have none of their own, and `rank` replaces the
    default of the methods that have one.
    """
    rows = {}
    for name, method in ADAPTERS.items():
        config = method.Config()
        if rank is not None and "rank" in asdict(config):
            config = replace(config, rank=rank)
        own = method.kinds(config)
        rows[name] = _row(name, config, find_sites(parts, target_modules if own == ("attention",) else own))
    return rows


def _row(name: str, config: Any, sites: Mapping[str, Site]) -> dict[str, Any]:
    row = {"options": asdict(config), "sites": len(sites)}
    try:
        found = cost(name, config, sites)
        return {**row, **asdict(found), **capabilities(name, config, found.exact_rank)}
    except StudioError as error:
        return {**row, "refused": str(error)}


def architecture_table(name: str, rank: int | None = None) -> dict[str, dict[str, Any]]:
    """`cost_table` of an architecture, found without weights; StudioError for a name that there is not."""
    return cost_table(architecture_parts(name), default_target_modules(name), rank)


if __name__ == "__main__":
    tables = {name: architecture_table(name) for name in ARCHITECTURES}
    atomic_write(ADAPTER_COSTS, (json.dumps(tables, indent=1) + "\n").encode())
