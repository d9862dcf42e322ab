"""`studio export` and `studio import`: concepts to and from other tools' files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ui.cli.concept import described
from ui.cli.options import (
    DEFAULT_LIBRARY,
    AverageOption,
    BaseOption,
    ContrastOption,
    DensityOption,
    JsonOption,
    LibraryOption,
    RidgeOption,
    StrengthOption,
    notify,
    report,
    workflow_of,
    writable,
)
from ui.services.parsing import strengths_from


def export(
    names: Annotated[list[str], typer.Argument(help="The concepts to export; several are merged.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", callback=writable, help="A .safetensors file, or a folder for peft and full."),
    ],
    layout: Annotated[str, typer.Option("--format", help="kohya, diffusers, peft, lycoris, or full.")] = "kohya",
    rank: Annotated[
        int | None,
        typer.Option(
            min=1, help="The maximum rank of the LoRA; if unset, that of an equal LoRA, or 64 where there is none."
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    method: Annotated[
        str | None, typer.Option(help="The merge method for several concepts, as for studio merge.")
    ] = None,
    average: AverageOption = False,
    strength: StrengthOption = [],  # noqa: B006
    density: DensityOption = None,
    ridge: RidgeOption = None,
    contrast: ContrastOption = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Write concepts as a file that ComfyUI, A1111, diffusers or PEFT load."""
    from studio.composition.merge_config import MergeConfig
    from ui.services.import_export import export_concepts

    config = MergeConfig(method, strengths_from(strength), average, density, ridge, contrast=contrast)
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
    class_word: Annotated[
        str | None, typer.Option("--class", help="The class word, a word that the base knows.")
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            help="The textual inversion file of its token; if unset, rex.tokens.safetensors for rex.safetensors, "
            "if it exists, or the embedding that is bundled with the file."
        ),
    ] = None,
    trigger: Annotated[
        str | None, typer.Option(help="Trigger words, for a file without a token: they replace <NAME> in prompts.")
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Import a LoRA, LoCon, LoHa, LoKr, OFT, BOFT, GLoRA, (IA)³ or DoRA file of another tool into the library."""
    from ui.services import import_export

    concept, notes = import_export.import_file(workflow_of(library, base), file, name, class_word, tokens, trigger)
    for text in notes:
        notify(text)
    report(
        described(concept),
        as_json,
        lambda: typer.echo(f'Imported {concept.name}; now generate it: studio generate "a photo of <{concept.name}>"'),
    )
