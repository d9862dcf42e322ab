"""`studio adapters`: the cost of every method."""

from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from concepts.errors import StudioError
from ui.cli.options import DEFAULT_LIBRARY, BaseOption, JsonOption, LibraryOption, report


def adapters(
    architecture: Annotated[
        str | None, typer.Option(help="toybox, sd15, sd21 or sdxl, counted without weights; the base if unset.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="The rank of methods that have one; each method's default if unset.")
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """List every method with its number of trained parameters, file size and the rank of its exact LoRA."""
    from studio.adapters import ADAPTERS
    from studio.layers.sites import find_sites
    from studio.models.architectures import architecture_parts
    from studio.models.loading import default_target_modules
    from ui.services.studio import Workflow

    parts = architecture_parts(architecture) if architecture else Workflow(library, base).base.parts
    defaults = default_target_modules(architecture or base)
    rows = {}
    for name, method in ADAPTERS.items():
        config = method.Config()
        if rank is not None and "rank" in asdict(config):
            config = replace(config, rank=rank)
        own = method.kinds(config)
        rows[name] = _row(name, config, find_sites(parts, defaults if own == ("attention",) else own))
    document = {"architecture": architecture or base, "adapters": rows}
    report(document, as_json, lambda: _show(document))


def _row(name: str, config: Any, sites: Any) -> dict[str, Any]:
    """The method's options and cost, or why it does not fit."""
    from studio.adapters.cost import cost

    row = {"options": asdict(config), "sites": len(sites)}
    try:
        return {**row, **asdict(cost(name, config, sites))}
    except StudioError as error:
        return {**row, "refused": str(error)}


def _show(document: dict[str, Any]) -> None:
    table = Table("method", "sites", "trained", "as published", "file", "exact LoRA rank")
    table.title = f"adapters of {document['architecture']}"
    for name, row in document["adapters"].items():
        if "refused" in row:
            table.add_row(name, row["refused"])
            continue
        size = f"{row['file_bytes'] / 1000:,.1f} kB"
        rank = "no" if row["exact_rank"] is None else str(row["exact_rank"])
        table.add_row(name, str(row["sites"]), f"{row['trained']:,}", f"{row['published']:,}", size, rank)
    Console().print(table)
