"""`studio evaluate`: scores concepts on a benchmark's prompts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from concepts.errors import StudioError
from ui.cli.options import DEFAULT_LIBRARY, BaseOption, JsonOption, LibraryOption, progress_bar, report, workflow_of


def evaluate(
    names: Annotated[list[str], typer.Argument(help="The concept; for multi two or more.", metavar="NAME...")],
    benchmark: Annotated[
        str,
        typer.Option(
            help="dreambench: its 25 prompts, four images of each. multi: several concepts in one image, whether each "
            "is still itself (the Subject Collapse Rate), and who was taken for whom."
        ),
    ] = "dreambench",
    kind: Annotated[
        Literal["object", "live"] | None,
        typer.Option(help="DreamBench's prompts for objects, or for live subjects; by the class word if unset."),
    ] = None,
    regions: Annotated[
        Literal["auto", "boxes", "none"],
        typer.Option(help="For multi: regions that are found while sampling, boxes side by side, or none."),
    ] = "auto",
    method: Annotated[
        str | None, typer.Option(help="For multi: how the concepts are combined, as for studio generate.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="The CLIP model of image and text alignment: toybox-clip, MODEL/WEIGHTS such as ViT-B-32/openai, or "
            "an open_clip folder; that of the base's family if unset. CLIP-I and CLIP-T as published need openai's "
            "weights."
        ),
    ] = None,
    dino: Annotated[
        str | None,
        typer.Option(
            help="The DINO model: dino, dinov2, a folder, timm/NAME or a Hugging Face Hub model ID; none if unset."
        ),
    ] = None,
    num_inference_steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps; those of the base's family if unset.")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="The classifier-free guidance scale; that of the base's family if unset.")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Save the generated images in this folder.")] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Score concepts on a benchmark's prompts: one on DreamBench's (image alignment, text alignment and, with --dino,
    DINO), or several together.

    With a CLIP model as --backbone image and text alignment are CLIP-I and CLIP-T.
    """
    from studio.models.sampling_settings import SamplingSettings
    from ui.services.scoring.dreambench import dreambench
    from ui.services.scoring.multi_subject import evaluate_together

    workflow = workflow_of(library, base, backbone=backbone)
    given = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    given = {name: value for name, value in given.items() if value is not None}
    if benchmark == "multi":
        document = _followed(evaluate_together(workflow, names, regions, method, dino, given, pictures), "prompts_of")
        report(document, as_json, lambda: _show_together(document))
        return
    if benchmark != "dreambench":
        raise StudioError(f"There is no benchmark {benchmark!r}. Choose dreambench or multi.")
    if len(names) > 1:
        raise StudioError("DreamBench is for one concept. Name one, or give --benchmark multi.")
    settings = SamplingSettings(**given)  # pyright: ignore[reportArgumentType]
    document = _followed(dreambench(workflow, names[0], kind, dino, settings, pictures))
    report(document, as_json, lambda: _show(document))


def _followed(documents: Iterator[dict[str, Any]], total: str | None = None) -> dict[str, Any]:
    """The last of the documents, each of one more prompt, with a progress bar; `total` is the key of their number."""
    document: dict[str, Any] = {}
    with progress_bar() as bar:
        task = bar.add_task("generating", total=None if total else 25, note="")
        for document in documents:
            bar.update(task, advance=1, total=document[total] if total else 25)
    return document


def _show_together(document: dict[str, Any]) -> None:
    console = Console()
    for judge, found in document["judges"].items():
        table = Table(
            "concept", *(f"taken for {name}" for name in next(iter(found["confusion"].values()))), "similarity",
            title=f"{' and '.join(document['concepts'])}, regions: {document['regions']}, by {judge}",
        )  # fmt: skip
        for name, row in found["confusion"].items():
            table.add_row(name, *(f"{share:.0%}" for share in row.values()), f"{found['similarity'][name]:.3f}")
        console.print(table)
        rates = [f"collapse rate {found['collapse_rate']:.0%}"]
        rates += [f"{key} {value:.0%}" for key, value in found.items() if key.startswith("SCR@")]
        console.print(", ".join(rates))
    console.print(f"text alignment {document['text_alignment']:.3f}")


def _show(document: dict[str, Any]) -> None:
    measures = document["measures"]
    backbones = " and ".join(name for name in document["backbones"].values() if name)
    table = Table("prompt", *measures, title=f"{document['benchmark']}, {document['kind']}, by {backbones}")
    for row in [*document["prompts"], document["mean"]]:
        table.add_row(row["prompt"], *("" if row[key] is None else f"{row[key]:.3f}" for key in measures))
    Console().print(table)
