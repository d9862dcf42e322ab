"""`studio train`: trains a concept of the library."""

import json
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concepts.errors import StudioError
from concepts.text_files import read_text
from ui.cli.concept import Name, described
from ui.cli.options import (
    DEFAULT_LIBRARY,
    BackboneOption,
    BaseOption,
    JsonOption,
    LibraryOption,
    notify,
    progress_bar,
    report,
    workflow_of,
)
from ui.services.parsing import number_from, pairs, parsed

if TYPE_CHECKING:
    from ui.services.workflow import Workflow

INTERRUPTED = 130
"""The exit status of a training that Ctrl-C stopped, as shells have it."""


def train(
    name: Name,
    adapter: Annotated[
        str | None, typer.Option(help="The adapter, one that studio adapters lists; spectral_additive if unset.")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="The adapter's rank; the adapter's default if unset.")] = None,
    max_parameters: Annotated[
        str | None,
        typer.Option(help="Instead of a rank: the maximum number of trained parameters, such as 20k or 1.5M."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="The random seed.")] = None,
    column: Annotated[
        int | None,
        typer.Option(
            min=0, help="The index of the first of the concept's singular columns; the lowest free ones if unset."
        ),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Continue from the concept's last training result.")
    ] = False,
    go_on_from: Annotated[
        str | None,
        typer.Option("--continue-from", help="Continue from this file of a trained concept, NAME.safetensors."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--recipe", help="A TOML file of training options; studio recipe prints one."),
    ] = None,
    save_every_n_steps: Annotated[
        int | None,
        typer.Option(help="Keep a snapshot every this many steps; prompts take it as <NAME@STEP>."),
    ] = None,
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="For GPUs with 8 GB: less memory, more time.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="OPTION=VALUE: another option of the recipe or of the adapter; lists as JSON."),
    ] = None,
    backbone: BackboneOption = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Train a concept on its pictures; the result is stored in the library.

    What is not set comes from the preset of the base's family; studio recipe --base BASE prints it.
    """
    given = {**read_recipe(file), **given_options(adapter, rank, max_parameters, steps, seed)}
    if save_every_n_steps is not None:
        given["save_every_n_steps"] = save_every_n_steps
    if low_memory:
        given["low_memory"] = True
    workflow = workflow_of(library, base, backbone=backbone)
    earlier = go_on_from or name
    start = workflow.trained(earlier) if go_on or go_on_from else None
    recipe = recipe_from(given, settings or [], start)
    for note in workflow.training_notes([name], recipe):
        notify(note)
    trained = _trained(workflow, name, recipe, start, column)
    concept = workflow.library.concept(name)
    document = {**described(concept), "losses": trained.losses}
    report(document, as_json, lambda: _show_trained(concept))


def _trained(workflow: "Workflow", name: str, recipe: Any, start: Any, column: int | None) -> Any:
    """Trains with a progress bar; Ctrl-C and SIGTERM stop it after the step, and the same command resumes it."""
    from training.engine.trainer import TrainingStopped
    from training.jobs.signals import stop_requested

    with progress_bar() as bar, stop_requested(lambda: notify("Stopping after this step.")) as stop:
        task = bar.add_task("loading", total=None, note="")
        try:
            return workflow.train(name, recipe, lambda progress: _advance(bar, task, progress), start, column, stop)
        except TrainingStopped as stopped:
            bar.stop()
            notify(
                f"The training of {name} stopped after step {stopped.step} of {stopped.steps}. Run the same command "
                "to resume it."
            )
            raise typer.Exit(INTERRUPTED) from stopped


def given_options(
    adapter: str | None, rank: int | None, max_parameters: str | None, steps: int | None, seed: int | None
) -> dict[str, Any]:
    """The recipe's options that have flags of their own, without those that are unset."""
    options = {
        "adapter": adapter,
        "rank": rank,
        "max_parameters": max_parameters and number_from(max_parameters),
        "steps": steps,
        "seed": seed,
    }
    return {key: value for key, value in options.items() if value is not None}


def read_recipe(file: Path | None) -> dict[str, Any]:
    """The options in a TOML file, if one is given; StudioError if it cannot be read."""
    if file is None:
        return {}
    try:
        return tomllib.loads(read_text(file, "The recipe"))
    except tomllib.TOMLDecodeError as error:
        raise StudioError(
            f"The recipe {file} could not be read ({error}). Give --recipe a TOML file such as studio recipe prints."
        ) from error


def recipe(base: BaseOption = "toybox") -> None:
    """Print every training option with its description and default, as a TOML file for studio train --recipe.

    With --base it has the preset of the base's family. An option that is unset is commented out; the learning rates
    there are those of the default adapter. The adapter's own options, such as alpha of lora, go into the table options.
    """
    from studio.models.family_detection import family_of_source
    from training.config.family_presets import unset_values, with_family_defaults
    from training.config.recipe import Recipe

    family = family_of_source(base)
    shown = with_family_defaults(Recipe(), family)
    typer.echo(f"# The preset of {'toybox' if base == 'toybox' else family.title}.\n")
    for key, field in Recipe.model_fields.items():
        typer.echo("\n".join(f"# {line}" for line in textwrap.wrap(field.description or "", 116)))
        value = getattr(shown, key)
        typer.echo(
            f"{_unset(unset_values(family, shown).get(key), key)}\n" if value is None else f"{key} = {_toml(value)}\n"
        )


def _unset(value: Any, key: str) -> str:
    return f"# {key} =" if value is None else f"# {key} = {_toml(value)}"


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def recipe_from(options: dict[str, Any], settings: list[str], start: Any = None) -> Any:
    """The recipe of these options and OPTION=VALUE settings; options that it lacks are the adapter's own.

    With `start`, a trained concept, it is that concept's recipe with these changes.
    """
    from training.config.recipe import Recipe
    from training.config.recipe_resolution import continued_recipe

    values = {key: parsed(value) for key, value in pairs(settings, "--set").items()}
    own = {key: value for key, value in values.items() if key in Recipe.model_fields and key != "options"}
    others = {**options.get("options", {}), **{key: value for key, value in values.items() if key not in own}}
    given = {**options, **own, **({"options": others} if others else {})}
    return Recipe(**given) if start is None else continued_recipe(start, given)


def _advance(bar: Any, task: Any, progress: Any) -> None:
    what = "generating class images" if progress.loss is None else "training"
    note = "" if progress.loss is None else f"loss {progress.loss:.4f}"
    if bar.tasks[task].description != what:
        bar.reset(task, description=what)
        if progress.loss is not None and progress.step > 1:
            notify(f"Resuming the interrupted training after step {progress.step - 1} of {progress.steps}.")
    bar.update(task, completed=progress.step, total=progress.steps, note=note)


def _show_trained(concept: Any) -> None:
    result = concept.result
    typer.echo(f"Trained {concept.name}: {result.parameters:,} parameters in {result.path}")
    typer.echo(
        f"image alignment {result.scores['image_alignment']:.3f} ({result.scores['backbone']}); see {result.preview}"
    )
    for block in concept.columns:
        if note := block.note():
            notify(note)
    typer.echo(f'Now generate it: studio generate "a photo of <{concept.name}> on the beach"')
