"""`studio base`: how good the base is, and how the bundled one is made."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from studio.errors import StudioError
from ui.options import (
    DEFAULT_LIBRARY,
    BaseOption,
    JsonOption,
    LibraryOption,
    default_work_folder,
    progress_bar,
    report,
)

app = typer.Typer(help="Measure a base model, or train the bundled one.", no_args_is_help=True)


@app.command()
def evaluate(
    rounds: Annotated[int, typer.Option(min=1, help="How often every thing is asked for.")] = 1,
    pictures: Annotated[Path | None, typer.Option("--pictures", help="A PNG file for what was painted.")] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Paint prompts of one object, two objects, colours and backgrounds, and have classifiers judge the pictures."""
    from studio.diffusion import paint_prompts
    from studio.paint_settings import PaintSettings
    from training.toybox import judges
    from training.toybox.evaluate import accuracy, judge_accuracy, questions
    from ui.pictures import evaluation_sheet
    from ui.workflow import Workflow

    workflow = Workflow(library, base)
    judge = judges.load(default_work_folder())
    settings, asked = PaintSettings(batch=8), questions(rounds)
    with progress_bar() as bar:
        task = bar.add_task("painting", total=settings.steps * -(-len(asked) // settings.batch), note="")
        prompts = [question.prompt for question in asked]
        painted = paint_prompts(workflow.base, prompts, range(len(asked)), settings, lambda: bar.advance(task))
    verdicts = judges.judge_pictures(judge, painted)
    if pictures:
        evaluation_sheet(asked, verdicts, painted).save(pictures)
    document = {
        "base": base,
        "accuracy": accuracy(asked, verdicts),
        "judges": judge_accuracy(judge),
        "prompts": len(asked),
    }
    report(document, as_json, lambda: _show_accuracy(document))


def _show_accuracy(document: dict[str, Any]) -> None:
    table = Table("category", "accuracy", "judges on unseen renders", title=f"{document['base']}")
    for category, value in document["accuracy"].items():
        table.add_row(category, f"{value:.3f}", f"{document['judges'][category]:.3f}")
    Console().print(table)


@app.command()
def train(
    target: Annotated[Path, typer.Option(help="Where the finished folders go.")] = Path("toybox-build"),
    work: Annotated[Path | None, typer.Option(help="Where checkpoints are kept between runs.")] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="autoencoder, text_encoder, denoiser, scorer or judges; all if unset.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="An earlier toybox whose training goes on.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps planned for the denoiser in all sittings.")] = None,
    decay: Annotated[
        float, typer.Option(min=0, max=1, help="The last share of the denoiser's steps, in which its rate falls.")
    ] = 0.25,
    attention: Annotated[str, typer.Option(help="Attention at 16x16: neither, up or both.")] = "up",
    notes: Annotated[Path | None, typer.Option("--log", help="A folder for lines of figures and sheets.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the UNet: faster after minutes.")] = False,
    _library: LibraryOption = DEFAULT_LIBRARY,
    _base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Make toybox, its scorer and its judges from nothing; a run that was stopped goes on where it was."""
    from training.toybox.build import STAGES, BaseRecipe, train_base
    from training.toybox.denoiser import ATTENTION, DenoiserRecipe
    from training.toybox.denoiser import STEPS as DENOISER_STEPS

    chosen = tuple(stage or STAGES)
    if unknown := [name for name in chosen if name not in STAGES]:
        raise StudioError(f"There is no stage called {unknown[0]}: choose from {', '.join(STAGES)}.")
    if attention not in ATTENTION:
        raise StudioError(f"There is no attention called {attention}: choose from {', '.join(ATTENTION)}.")
    denoiser = DenoiserRecipe(steps or DENOISER_STEPS, decay, attention, compile=compiled)
    recipe = BaseRecipe(denoiser=denoiser, device=device, notes=notes)
    train_base(work or default_work_folder(), target, recipe, chosen, start)
    report({"target": str(target), "stages": chosen}, as_json, lambda: typer.echo(f"Written to {target}"))
