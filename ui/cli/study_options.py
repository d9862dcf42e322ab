"""Common code of the studies' commands: presets, progress and reports."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concepts.errors import StudioError
from ui.cli.options import progress_bar, report, writable

if TYPE_CHECKING:
    from training.studies.study_page import Page

OutputOption = Annotated[
    Path,
    typer.Option(
        "-o", "--output", callback=writable, help="The study's folder; results that it already has are reused."
    ),
]
AdapterOption = Annotated[
    list[str] | None, typer.Option("--adapter", help="An adapter to measure; repeatable; all of the study if unset.")
]
InferenceStepsOption = Annotated[int, typer.Option(min=1, help="Denoising steps.")]
PriorOption = Annotated[int, typer.Option(min=2, help="Number of class images of each training.")]
QuickOption = Annotated[
    bool,
    typer.Option(
        "--quick",
        help="Smaller defaults, for under 15 minutes on two CPU cores; options that are given keep their values.",
    ),
]
PublishOption = Annotated[
    Path | None,
    typer.Option(help="Also write the report as a Markdown page with figures into this folder, such as docs/studies."),
]
OnlyReportOption = Annotated[
    bool,
    typer.Option(
        "--only-report", help="Do not train; write the report from the results so far, for example of a stopped study."
    ),
]

OnRow = Callable[[dict[str, Any]], None]
"""Called with each row of a study when it is done."""


def with_presets(context: typer.Context, presets: Mapping[str, Any]) -> dict[str, Any]:
    """The command's options, with presets for those that were not given."""
    return {
        name: presets[name] if name in presets and not _was_given(context, name) else value
        for name, value in context.params.items()
    }


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _command(context: typer.Context) -> str:
    """The command line that reproduces the study."""
    words = ["studio", *context.command_path.split()[1:]]
    for parameter in context.command.params:
        if parameter.name and _was_given(context, parameter.name):
            value = context.params[parameter.name]
            if value is True:
                words.append(parameter.opts[-1])
            for each in value if isinstance(value, list | tuple) else () if value is True else (value,):
                words += [parameter.opts[-1], str(each)]
    return shlex.join(words)


def run_with_progress(total: int, run: Callable[[OnRow], list[dict[str, Any]]], shown: str) -> list[dict[str, Any]]:
    """The rows, under a progress bar that shows the value of `shown` of each."""
    with progress_bar() as bar:
        task = bar.add_task("studying", total=total, note="")
        return run(lambda row: bar.update(task, advance=1, note=f"{row.get(shown, '')}, {row['row_seconds']:.0f} s"))


def finish(
    context: typer.Context, page: "Page", output: Path, publish: Path | None, as_json: bool, document: dict[str, Any]
) -> None:
    """Writes the study's report, publishes it if `publish` is set, and prints its path."""
    document["report"] = str(page.write(output))
    if publish:
        document["page"] = str(page.publish(publish, _command(context)))
    report(document, as_json, lambda: typer.echo(f"Done. Open {document['report']}"))


def require_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows; StudioError if there are none."""
    if not rows:
        raise StudioError("The study's folder has no results yet. Run the study without --only-report first.")
    return rows


def numbers_from(text: str) -> list[int]:
    """The value of --counts."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise StudioError(f"--counts {text!r} is invalid. Give numbers separated by commas, such as 2,3,4.") from error


def layers_from(text: str) -> tuple[str, ...]:
    """The value of --target-modules, checked."""
    from studio.layers.target_modules import CHOICES

    kinds = tuple(part.strip() for part in text.split(",") if part.strip())
    if unknown := next((kind for kind in kinds if kind not in CHOICES), None):
        raise StudioError(f"--target-modules {unknown!r} does not exist. Choose from {', '.join(CHOICES)}.")
    return kinds


def rates_from(text: str) -> tuple[float, ...]:
    """The value of --rates."""
    try:
        rates = tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise StudioError(
            f"--rates {text!r} is invalid. Give numbers separated by commas, such as 1e-3,1e-2."
        ) from error
    if not all(0 < rate < 1 for rate in rates):
        raise StudioError(f"--rates {text!r} is invalid. Learning rates lie between 0 and 1.")
    return rates
