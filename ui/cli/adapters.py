"""`studio adapters`: the cost of every adapter."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from ui.cli.options import DEFAULT_LIBRARY, BaseOption, JsonOption, LibraryOption, outline, report, workflow_of


def adapters(
    name: Annotated[
        str | None,
        typer.Argument(help="An adapter to describe: equation, source, merge methods and exports; all if unset."),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(help="Count for toybox, sd15, sd21 or sdxl, without loading weights; for --base if unset."),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="The rank of adapters that have one; each adapter's default if unset.")
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """List every adapter with its trained parameters, its file size, and the rank of the LoRA that equals it.

    No rank means that a LoRA can only approximate the adapter. With a name, that adapter alone is described.
    """
    from studio.bundled import stored_cost_table

    known = architecture or ("toybox" if base == "toybox" else None)
    stored = stored_cost_table(known) if known and rank is None else None
    rows = stored or _counted(known, rank, library, base)
    if name is not None and name not in rows:
        raise typer.BadParameter(f"There is no adapter {name!r}. Choose from {', '.join(rows)}.")
    document = {"architecture": architecture or base, "adapters": rows if name is None else {name: rows[name]}}
    if name is None:
        report(document, as_json, lambda: _show(document))
    else:
        report(document, as_json, lambda: typer.echo("\n".join(outline({name: rows[name]}))))


def _counted(architecture: str | None, rank: int | None, library: str, base: str) -> dict[str, dict[str, Any]]:
    """The table of what is not stored: another rank than the adapters' defaults, or a base of the user's."""
    from studio.adapters.cost_table import architecture_table, cost_table

    if architecture:
        return architecture_table(architecture, rank)
    loaded = workflow_of(library, base).base
    return cost_table(loaded.parts, loaded.default_target_modules, rank)


def _show(document: dict[str, Any]) -> None:
    table = Table(
        Column("adapter", no_wrap=True), "layers", "trained", "as in the paper", "file", "rank of an equal LoRA"
    )
    table.title = f"adapters of {document['architecture']}"
    for adapter, row in document["adapters"].items():
        if "refused" in row:
            table.add_row(adapter, row["refused"])
            continue
        size = f"{row['file_bytes'] / 1000:,.1f} kB"
        rank = "none" if row["exact_rank"] is None else str(row["exact_rank"])
        table.add_row(adapter, str(row["sites"]), f"{row['trained']:,}", f"{row['published']:,}", size, rank)
    Console().print(table)
