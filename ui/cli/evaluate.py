"""`studio evaluate`: scores a concept on a benchmark's prompts."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from concepts.errors import StudioError
from ui.cli.concept import Name
from ui.cli.options import DEFAULT_LIBRARY, BaseOption, JsonOption, LibraryOption, progress_bar, report, workflow_of


def evaluate(
    name: Name,
    benchmark: Annotated[str, typer.Option(help="dreambench: its 25 prompts, four images of each.")] = "dreambench",
    kind: Annotated[
        Literal["object", "live"] | None,
        typer.Option(help="DreamBench's prompts for objects, or for live subjects; by the class word if unset."),
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
    """Score a concept on DreamBench's prompts: image alignment, text alignment and, with --dino, DINO.

    With a CLIP model as --backbone these are CLIP-I and CLIP-T.
    """
    from studio.models.sampling_settings import SamplingSettings
    from ui.services.evaluation import dreambench

    if benchmark != "dreambench":
        raise StudioError(f"There is no benchmark {benchmark!r}. Choose dreambench.")
    workflow = workflow_of(library, base, backbone=backbone)
    given = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    settings = SamplingSettings(**{name: value for name, value in given.items() if value is not None})  # pyright: ignore[reportArgumentType]
    with progress_bar() as bar:
        task = bar.add_task("generating", total=25, note="")
        document: dict[str, Any] = {}
        for so_far in dreambench(workflow, name, kind, dino, settings, pictures):
            document = so_far
            bar.advance(task)
    report(document, as_json, lambda: _show(document))


def _show(document: dict[str, Any]) -> None:
    measures = document["measures"]
    backbones = " and ".join(name for name in document["backbones"].values() if name)
    table = Table("prompt", *measures, title=f"{document['benchmark']}, {document['kind']}, by {backbones}")
    for row in [*document["prompts"], document["mean"]]:
        table.add_row(row["prompt"], *("" if row[key] is None else f"{row[key]:.3f}" for key in measures))
    Console().print(table)
