"""`studio concept`: the concepts in the library, which are the same for every base."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ui.cli.options import DEFAULT_LIBRARY, JsonOption, LibraryOption, outline, pictures_in, report, writable
from ui.services.open_library import library_at

if TYPE_CHECKING:
    from concepts import Concept

app = typer.Typer(help="Add, list, show, rename, remove and restore concepts.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The concept's name, written <NAME> in prompts.")]


@app.command()
def add(
    name: Name,
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them; 3 to 10 are best.")],
    class_word: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="The class word, a word that the base knows, such as dog; style for a style. If unset, that of a "
            "folder named as kohya's, 10_rex dog.",
        ),
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    as_json: JsonOption = False,
) -> None:
    """Add a concept with its pictures."""
    from concepts.images.import_files import class_word_of

    chosen = class_word or class_word_of(path.resolve().name for path in pictures)
    if chosen is None:
        raise typer.BadParameter("Give the class word with --class, such as --class dog.")
    concept = library_at(library).add_concept(name, chosen, pictures_in(pictures))
    report(
        described(concept), as_json, lambda: typer.echo(f"Added {concept.name}; now run: studio train {concept.name}")
    )


@app.command("list")
def list_concepts(
    search: Annotated[str, typer.Option(help="Only concepts whose names start with this, sorted by name.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of concepts; all if unset.")] = None,
    after: Annotated[
        str | None, typer.Option(help="List the concepts after this one, the last of the previous page.")
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    as_json: JsonOption = False,
) -> None:
    """List concepts, the oldest first; with --search, sorted by name."""
    opened = library_at(library)
    concepts = opened.page(limit, opened.concept(after) if after else None, search)
    report([described(concept) for concept in concepts], as_json, lambda: _show_all(concepts))


@app.command("show")
def show_concept(
    name: Name,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            callback=writable,
            help="A PNG file for plots of the training.",
        ),
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    as_json: JsonOption = False,
) -> None:
    """Show a concept's pictures, singular columns, training result and scores."""
    concept = library_at(library).concept(name)
    document = described(concept)
    if concept.result and "rates" in concept.result.details:
        document["training"] = _training_summary(concept.result.details, name, output)
    report(document, as_json, lambda: typer.echo("\n".join(outline(document))))


def _training_summary(details: dict[str, Any], name: str, plots: Path | None) -> dict[str, Any]:
    """Statistics of the concept's training; plots of the steps are written to a file if one is given."""
    keys = ("seconds", "pictures_per_second", "peak_bytes", "trained", "changed", "alignments", "validation_losses")
    steps = len(details["losses"])
    statistics = {
        "snapshots": details.get("snapshots", []), "steps": steps,
        "total_steps": details.get("total_steps", steps), "loss": details["losses"][-1],
        **{key: details.get(key, []) for key in keys},
    }  # fmt: skip
    if plots is None:
        return statistics
    from training.reporting.html_report import training_curves

    training_curves(details, name).save(plots, format="PNG")
    return {**statistics, "plots": str(plots)}


@app.command()
def keep(
    snapshot: Annotated[str, typer.Argument(help="NAME@STEP, a snapshot that studio concept show lists.")],
    library: LibraryOption = DEFAULT_LIBRARY,
    as_json: JsonOption = False,
) -> None:
    """Keep a snapshot as the concept's result. The result until now becomes a snapshot, so this can be undone."""
    from ui.services.named_concepts import name_and_step
    from ui.services.snapshots import keep_snapshot

    name, step = name_and_step(snapshot)
    if step is None:
        raise typer.BadParameter("Give a name and a step, such as rex@80.")
    opened = library_at(library)
    keep_snapshot(opened, name, step)
    concept = opened.concept(name)
    report(described(concept), as_json, lambda: typer.echo(f"{concept.name} is the one after step {step} now."))


@app.command()
def rename(
    name: Name,
    new_name: Annotated[str, typer.Argument(help="The new name.")],
    class_word: Annotated[str | None, typer.Option("--class", help="Also change the class word.")] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    as_json: JsonOption = False,
) -> None:
    """Rename a concept; its training result is kept."""
    concept = library_at(library).rename_concept(name, new_name, class_word)
    report(described(concept), as_json, lambda: typer.echo(f"Renamed to {concept.name}."))


@app.command()
def remove(
    name: Name,
    permanent: Annotated[
        bool,
        typer.Option(
            "--for-good", help="Delete its pictures and trained files, and free its singular columns; cannot be undone."
        ),
    ] = False,
    library: LibraryOption = DEFAULT_LIBRARY,
    as_json: JsonOption = False,
) -> None:
    """Remove a concept. studio concept restore undoes this, except with --for-good."""
    removed = library_at(library).remove_concept(name, permanent)
    undo = "" if permanent else f" To bring it back: studio concept restore {removed}"
    report({"removed": removed}, as_json, lambda: typer.echo(f"Removed {removed}.{undo}"))


@app.command()
def restore(name: Name, library: LibraryOption = DEFAULT_LIBRARY, as_json: JsonOption = False) -> None:
    """Restore a removed concept with its pictures, columns and training result."""
    concept = library_at(library).restore_concept(name)
    report(described(concept), as_json, lambda: typer.echo(f"Restored {concept.name}."))


def described(concept: "Concept") -> dict[str, Any]:
    """A concept as plain data."""
    result = concept.result
    trained = result and {
        "file": str(result.path),
        "preview": result.preview and str(result.preview),
        "base": result.base,
        "adapter": result.adapter,
        "rank": result.rank or None,
        "parameters": result.parameters,
        "scores": result.scores,
    }
    columns = [
        {
            "base": c.base, "space": c.space, "first": c.start, "count": c.width, "shared_with": list(c.shared_with),
            "note": c.note(),
        }
        for c in concept.columns
    ]  # fmt: skip
    return {
        "name": concept.name,
        "class": concept.class_word,
        "pictures": [str(path) for path in concept.pictures],
        "captions": list(concept.captions),
        "masks": [mask and str(mask) for mask in concept.masks],
        "repeats": list(concept.repeats),
        "columns": columns,
        "trained": trained,
    }


def _show_all(concepts: "list[Concept]") -> None:
    if not concepts:
        typer.echo("No concepts yet; add one with: studio concept add NAME PICTURE... --class dog")
        return
    table = Table("name", "class", "pictures", "adapter", "rank", "parameters", "image alignment")
    for concept in concepts:
        result = concept.result
        cells = [concept.name, concept.class_word, str(len(concept.pictures))]
        if result:
            score = result.scores.get("image_alignment")
            cells += [
                result.adapter,
                str(result.rank or ""),
                f"{result.parameters:,}",
                "" if score is None else f"{score:.3f}",
            ]
        table.add_row(*cells)
    Console().print(table)
