"""`studio base`: evaluates a base model, and trains the bundled one."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from concepts.errors import StudioError
from ui.cli.options import (
    DEFAULT_LIBRARY,
    BaseOption,
    JsonOption,
    LibraryOption,
    default_work_folder,
    progress_bar,
    report,
)

if TYPE_CHECKING:
    from PIL import Image

    from studio.models.base_model import Base
    from studio.models.sampling_settings import SamplingSettings

app = typer.Typer(help="Evaluate a base model, or train the bundled one.", no_args_is_help=True)


@app.command()
def evaluate(
    prompts_per_category: Annotated[int, typer.Option(min=1, help="Number of prompts of each category.")] = 1,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Save the generated images as one PNG file, with the failures framed in red."),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="Also save images of 48 random prompts as one PNG file, and the prompts as a .txt file."),
    ] = None,
    distance: Annotated[
        int,
        typer.Option(min=0, help="Number of images for the Fréchet distance to rendered images; 0 skips it."),
    ] = 192,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Generate images for prompts about objects, attributes, colours, backgrounds and positions, and check them.

    A detector finds what the images show.
    """
    from studio.models.sampling_settings import SamplingSettings
    from training.toybox.evaluation.base_evaluation import accuracy, detector_accuracy, distances
    from training.toybox.evaluation.prompts import evaluation_prompts, sheet_prompts
    from training.toybox.stages.detector import detect, load
    from ui.services.image_files import evaluation_sheet, grid
    from ui.services.workflow import Workflow

    workflow, detector = Workflow(library, base), load()
    settings = SamplingSettings(batch_size=8).with_defaults(workflow.family)
    questions = evaluation_prompts(prompts_per_category)
    generated = _generated(workflow.base, [item.prompt for item in questions], settings)
    detections = detect(detector, generated)
    if sheet:
        evaluation_sheet(questions, detections, generated).save(sheet)
    if samples:
        prompts = sheet_prompts()
        grid(_generated(workflow.base, prompts, settings), columns=8).save(samples)
        samples.with_suffix(".txt").write_text("".join(f"{prompt}\n" for prompt in prompts))
    document: dict[str, Any] = {
        "base": base,
        "accuracy": accuracy(questions, detections),
        "detector": detector_accuracy(detector),
        "prompts": len(questions),
    }
    if distance:
        found = distances(workflow.base, workflow.scorer, settings, distance)
        document["frechet_distance"] = asdict(found) | {"pictures": distance}
    report(document, as_json, lambda: _show_accuracy(document))


def _generated(base: "Base", prompts: list[str], settings: "SamplingSettings") -> list["Image.Image"]:
    """One image of each prompt; the first has the seed 0, the next 1 and so on."""
    from studio.models.base_model import generate_images

    with progress_bar() as bar:
        batches = -(-len(prompts) // settings.batch_size)
        task = bar.add_task("generating", total=settings.num_inference_steps * batches, note="")
        return generate_images(base, prompts, range(len(prompts)), settings, lambda: bar.advance(task))


def _show_accuracy(document: dict[str, Any]) -> None:
    table = Table("category", "accuracy", "detector on unseen rendered images", title=f"{document['base']}")
    for category, value in document["accuracy"].items():
        table.add_row(category, f"{value:.3f}", f"{document['detector'][category]:.3f}")
    Console().print(table)
    if found := document.get("frechet_distance"):
        typer.echo(
            f"Fréchet distance to rendered images: {found['generated']:.3f}; "
            f"of the autoencoder's reconstructions of them: {found['reconstructed']:.3f}"
        )


@app.command()
def train(
    target: Annotated[Path, typer.Option(help="The output folder for the trained models.")] = Path("toybox-build"),
    work: Annotated[
        Path | None, typer.Option(help="The folder for checkpoints; the user's cache folder if unset.")
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="What to train: autoencoder, text_encoder, denoiser, scorer, detector or identity; all if unset."
        ),
    ] = None,
    start: Annotated[Path | None, typer.Option(help="The folder of trained models from which to continue.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Total training steps of the denoiser, over all runs.")
    ] = None,
    decay: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="The final fraction of the denoiser's steps, in which the learning rate decays."
        ),
    ] = 0.25,
    attention: Annotated[
        str, typer.Option(help="UNet blocks with attention at 16x16: neither, up, or both (down and up).")
    ] = "up",
    log_folder: Annotated[
        Path | None, typer.Option("--log", help="The folder for a CSV log and sample images.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the UNet: takes minutes to start, then trains faster.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train toybox, its scorer and its detector from scratch; a stopped run resumes from its checkpoint."""
    from training.toybox.build import STAGES, BaseRecipe, train_base
    from training.toybox.stages.denoiser import ATTENTION, DenoiserRecipe
    from training.toybox.stages.denoiser import STEPS as DENOISER_STEPS
    from training.toybox.stages.huge_pages import keep_memory

    chosen = tuple(stage or STAGES)
    if unknown := [name for name in chosen if name not in STAGES]:
        raise StudioError(f"There is no --stage {unknown[0]!r}. Choose from {', '.join(STAGES)}.")
    if attention not in ATTENTION:
        raise StudioError(f"--attention {attention!r} does not exist. Choose from {', '.join(ATTENTION)}.")
    if device == "cpu":
        keep_memory()
    denoiser = DenoiserRecipe(steps or DENOISER_STEPS, decay, attention, compile=compiled)
    recipe = BaseRecipe(denoiser=denoiser, device=device, log_folder=log_folder)
    train_base(work or default_work_folder(), target, recipe, chosen, start)
    report({"target": str(target), "stages": chosen}, as_json, lambda: typer.echo(f"Written to {target}"))
