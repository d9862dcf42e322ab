"""`studio batch`: trains many concepts from one manifest."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from concepts.errors import StudioError
from ui.cli.options import (
    DEFAULT_LIBRARY,
    JsonOption,
    LibraryOption,
    errors,
    notify,
    pictures_in,
    progress_bar,
    report,
    writable,
)
from ui.services.open_library import library_at

if TYPE_CHECKING:
    from concepts import Library

LINES = 12
"""Maximum number of jobs in the live table."""


def batch(
    manifest: Annotated[Path, typer.Argument(help="The manifest, a TOML file.")],
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes on this machine.")] = 1,
    executor: Annotated[str, typer.Option(help="local, or ray for a Ray cluster.")] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="The address of the Ray cluster, as for ray.init; a local cluster if unset.")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs that Ray reserves for each training.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            callback=writable,
            help="The folder for results and report; if unset, dogs-results beside dogs.toml.",
        ),
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    as_json: JsonOption = False,
) -> None:
    """Train many concepts. Run the same command again to train those that are not done yet."""
    from rich.live import Live

    from training.jobs.batch import outcomes, rows_of
    from training.jobs.batch_report import write_batch
    from training.jobs.manifest import read_manifest, runs_of
    from training.jobs.training_notes import training_notes

    read = read_manifest(manifest)
    runs = runs_of(read, manifest.resolve().parent)
    for folder in dict.fromkeys(run.pictures for run in runs):
        pictures_in([folder])
    work = _executor(executor, workers, ray_address, gpus)
    opened = library_at(library)
    label = hashlib.sha256(str(manifest.resolve()).encode()).hexdigest()[:16]
    _submit(opened, read, runs, label)
    for note in training_notes(opened, [(run.name, run.recipe) for run in runs]):
        notify(note)
    with Live(console=errors, refresh_per_second=2) as live:
        work(opened, lambda: live.update(_table(opened, runs)))
    found = outcomes(opened, runs, details=True)
    files = write_batch(output or manifest.with_name(f"{manifest.stem}-results"), f"Batch {manifest.stem}", found)
    report({"results": rows_of(found), "files": files}, as_json, lambda: typer.echo(f"Done. Open {files['html']}"))
    if failed := [outcome for outcome in found if outcome.state != "done"]:
        raise StudioError(f"{len(failed)} of {len(found)} trainings are not done. See the errors in {files['csv']}.")


def _executor(name: str, workers: int, address: str | None, gpus: float) -> Any:
    from training.jobs.executors import LocalExecutor, RayExecutor

    if name not in ("local", "ray"):
        raise StudioError(f"There is no --executor {name!r}. Choose local or ray.")
    return LocalExecutor(workers) if name == "local" else RayExecutor(address, gpus)


def _submit(library: "Library", manifest: Any, runs: Sequence[Any], label: str) -> None:
    from studio.models.base_model import load_base
    from training.jobs.batch import submit

    with progress_bar() as bar:
        task = bar.add_task("queueing", total=len(runs), note="")
        base = load_base(manifest.base, library.local / "columns")
        submit(library, base, manifest, runs, label, lambda run: bar.update(task, advance=1, note=run.name))


def _table(library: "Library", runs: Sequence[Any]) -> Table:
    """The running and failed jobs, with the number of trainings in each state."""
    from training.jobs.batch import outcomes

    found = outcomes(library, runs)
    states = [outcome.state for outcome in found]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    table = Table("concept", "state", "step", "loss", "error", title=counted)
    shown = [o for o in found if o.state in ("running", "failed")] or found
    for outcome in shown[:LINES]:
        job = outcome.job
        cells = ["", "", ""]
        if job:
            step = f"{job.step}/{job.steps}" if job.step else ""
            cells = [step, "" if job.loss is None else f"{job.loss:.4f}", job.error or ""]
        table.add_row(outcome.run.name, outcome.state, *cells)
    return table
