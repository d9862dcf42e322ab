"""`studio merge`: several concepts as one file, and how far they interfere."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from concepts.errors import StudioError
from ui.cli.options import (
    DEFAULT_LIBRARY,
    AverageOption,
    BaseOption,
    ContrastOption,
    DensityOption,
    JsonOption,
    LibraryOption,
    MergeRankOption,
    MethodOption,
    RidgeOption,
    StrengthOption,
    notify,
    report,
    workflow_of,
    writable,
)
from ui.services.parsing import strengths_from

if TYPE_CHECKING:
    from studio.composition.interference import Interference

_SHOWN = 5
"""Sites that are listed, those with the strongest overlap."""


def merge(
    names: Annotated[list[str], typer.Argument(help="The concepts to merge.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", callback=writable, help="The file to write, NAME.safetensors.")
    ],
    method: MethodOption = None,
    average: AverageOption = False,
    strength: StrengthOption = [],  # noqa: B006 (Typer wants a plain list)
    density: DensityOption = None,
    ridge: RidgeOption = None,
    rank: MergeRankOption = None,
    contrast: ContrastOption = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Merge several concepts into one file, for `studio generate --concept FILE`."""
    from studio.composition.merge_config import MergeConfig

    if output.suffix != ".safetensors":
        raise StudioError(f"--output {output} does not end in .safetensors. Give a .safetensors file.")
    config = MergeConfig(method, strengths_from(strength), average, density, ridge, rank, contrast)
    found: list[Interference] = []
    merged = workflow_of(library, base).merge(names, output, config, notify, found.extend)
    document = {
        "file": str(output), **merged.metadata, "rank": merged.config.get("rank"),
        "interference": [asdict(each) for each in found],
    }  # fmt: skip

    def show() -> None:
        _show(found)
        typer.echo(f"Merged {', '.join(names)} into {output}")

    report(document, as_json, show)


def _show(found: "Sequence[Interference]") -> None:
    """Prints the means of each pair, and the sites with the strongest overlap."""
    from studio.composition.interference import by_pair

    if not found:
        return
    console = Console()
    pairs = Table("concept", "other", "mean overlap", "highest", "mean cosine", title="interference of the changes")
    for (concept, other), values in by_pair(found).items():
        numbers = (f"{values[name]:.1%}" for name in ("overlap", "highest_overlap"))
        pairs.add_row(concept, other, *numbers, f"{values['cosine']:+.2f}")
    console.print(pairs)
    sites = Table("site", "concept", "other", "overlap", title="strongest overlaps")
    for each in found[:_SHOWN]:
        sites.add_row(each.site, each.concept, each.other, f"{each.overlap:.1%}")
    console.print(sites)
