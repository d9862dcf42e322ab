"""`studio export` and `studio import`: concepts to and from other tools' files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ui.cli.concept import described
from ui.cli.options import (
    DEFAULT_LIBRARY,
    AverageOption,
    BaseOption,
    DensityOption,
    JsonOption,
    LibraryOption,
    RidgeOption,
    StrengthOption,
    notify,
    report,
    workflow_of,
)
from ui.services.parsing import strengths_from


def export(
    names: Annotated[list[str], typer.Argument(help="The concepts to export; several are merged.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.safetensors, or a folder for peft and full.")],
    layout: Annotated[str, typer.Option("--format", help="kohya, diffusers, peft, or full.")] = "kohya",
    rank: Annotated[
        int | None,
        typer.Option(min=1, help="The LoRA's maximum rank; exact if unset, or 64 where no exact one exists."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    method: Annotated[
        str | None, typer.Option(help="The merge method for several concepts, as for studio merge.")
    ] = None,
    average: AverageOption = False,
    strength: StrengthOption = [],  # noqa: B006
    density: DensityOption = None,
    ridge: RidgeOption = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Write concepts as a file that ComfyUI, A1111, diffusers or PEFT load."""
    from studio.composition.merge import MergeConfig
    from ui.services.import_export import export_concepts

    config = MergeConfig(method, strengths_from(strength), average, density, ridge)
    made, notes = export_concepts(workflow_of(library, base), names, layout, output, config, rank, dtype)
    for text in notes:
        notify(text)
    document = {
        "file": str(made.path), "format": layout, "tokens": {token: str(path) for token, path in made.tokens.items()},
        "rank": made.rank, "error": made.error, "lost_biases": made.lost_biases,
        "averaged": list(made.averaged),
    }  # fmt: skip
    report(document, as_json, lambda: _show_export(document))


def _show_export(document: dict[str, Any]) -> None:
    rank = f" of rank {document['rank']}" if document["rank"] else ""
    error = f", relative error {document['error']:.1e}" if document["error"] else ""
    typer.echo(f"Wrote {document['file']}: {document['format']}{rank}{error}")
    for token, file in document["tokens"].items():
        typer.echo(f"Wrote {file}: the token {token}")


def import_file(
    file: Annotated[Path, typer.Argument(help="A .safetensors file of another tool, or a folder that PEFT wrote.")],
    name: Annotated[str, typer.Option(help="The concept's name.")],
    class_word: Annotated[str | None, typer.Option("--class", help="Its class word, known to the base.")] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(help="Its textual inversion file; if unset, FILE's stem with .tokens.safetensors, if it exists."),
    ] = None,
    trigger: Annotated[
        str | None, typer.Option(help="Instead of a token: the trigger words that <NAME> stands for in prompts.")
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Add a LoRA, LoHa, LoKr or OFT that another tool trained to the library."""
    from ui.services import import_export

    concept = import_export.import_file(workflow_of(library, base), file, name, class_word, tokens, trigger)
    report(
        described(concept),
        as_json,
        lambda: typer.echo(f'Imported {concept.name}; now generate it: studio generate "a photo of <{concept.name}>"'),
    )
