"""`studio jobs` and `studio worker`: the queue of trainings, and the processes that train."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from concepts.errors import LibraryError
from ui.cli.options import DEFAULT_LIBRARY, BaseOption, JsonOption, LibraryOption, notify, report, workflow_of
from ui.cli.train import given_options, recipe_from
from ui.services.open_library import library_at

if TYPE_CHECKING:
    from concepts import Job

app = typer.Typer(help="Queue trainings, and show their status.", no_args_is_help=True)
Identifier = Annotated[str, typer.Argument(help="The job's identifier, or its first characters.")]


@app.command()
def add(
    names: Annotated[list[str], typer.Argument(help="The concepts to train, in this order.")],
    adapter: Annotated[str | None, typer.Option(help="As for studio train.")] = None,
    rank: Annotated[int | None, typer.Option(help="As for studio train.")] = None,
    max_parameters: Annotated[str | None, typer.Option(help="As for studio train.")] = None,
    steps: Annotated[int | None, typer.Option(help="As for studio train.")] = None,
    seed: Annotated[int | None, typer.Option(help="As for studio train.")] = None,
    column: Annotated[int | None, typer.Option(min=0, help="As for studio train.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="As for studio train.")] = None,
    priority: Annotated[
        int,
        typer.Option(
            help="Jobs with a higher priority are trained first; equal ones in the order in which they were queued."
        ),
    ] = 0,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Queue concepts for studio worker to train."""
    recipe = recipe_from(given_options(adapter, rank, max_parameters, steps, seed), settings or [])
    workflow = workflow_of(library, base)
    jobs = workflow.queue(names, recipe, column, priority)
    for note in workflow.training_notes(names, recipe):
        notify(note)
    report([described(job) for job in jobs], as_json, lambda: _show_all(jobs))


@app.command("list")
def list_jobs(
    state: Annotated[
        list[str] | None, typer.Option(help="Only jobs in this state: queued, running, done, failed or cancelled.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of jobs.")] = 50,
    after: Annotated[
        str | None, typer.Option(help="List the jobs after this one, the last of the previous page.")
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    from concepts.tables import JobState

    known = get_args(JobState)
    if unknown := [name for name in state or () if name not in known]:
        raise LibraryError(f"There is no --state {unknown[0]!r}. Choose from {', '.join(known)}.")
    states: Any = state or ()
    jobs = library_at(library).jobs.page(limit, after, states)
    report([described(job) for job in jobs], as_json, lambda: _show_all(jobs))


@app.command()
def show(identifier: Identifier, library: LibraryOption = DEFAULT_LIBRARY, as_json: JsonOption = False) -> None:
    """Show one job, with its recipe and the loss of every step."""
    jobs = library_at(library).jobs
    job = jobs.job(identifier)
    document = {**described(job), "recipe": job.recipe, "losses": jobs.losses(job.id)}
    report(document, as_json, lambda: typer.echo("\n".join(f"{key}: {value}" for key, value in document.items())))


@app.command()
def cancel(identifier: Identifier, library: LibraryOption = DEFAULT_LIBRARY, as_json: JsonOption = False) -> None:
    """Cancel a job; a running one stops after the current step."""
    job = library_at(library).jobs.cancel(identifier)
    report(described(job), as_json, lambda: typer.echo(f"Cancelled the training of {job.concept}."))


@app.command()
def retry(identifier: Identifier, library: LibraryOption = DEFAULT_LIBRARY, as_json: JsonOption = False) -> None:
    """Queue a failed or cancelled job again; it resumes from its last checkpoint."""
    job = library_at(library).jobs.retry(identifier)
    report(described(job), as_json, lambda: typer.echo(f"Queued {job.concept} again."))


def worker(
    once: Annotated[bool, typer.Option("--once", help="Train at most one job, then exit.")] = False,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="Exit when no job is queued or running.")] = False,
    lease: Annotated[
        float, typer.Option(min=2, help="Seconds after which another worker takes over the job of a worker that died.")
    ] = 60.0,
    library: LibraryOption = DEFAULT_LIBRARY,
) -> None:
    """Train the jobs of the queue, one after another, until Ctrl-C or SIGTERM."""
    from training.jobs.worker_process import work

    taken = work(library_at(library), lease, once=once, until_empty=until_empty)
    notify(f"{taken} jobs taken")


def described(job: "Job") -> dict[str, Any]:
    """A job as plain data."""
    return {
        "id": job.id, "concept": job.concept, "state": job.state, "step": job.step, "steps": job.steps,
        "loss": job.loss, "error": job.error, "attempts": job.attempts, "priority": job.priority, "base": job.base,
        "first_column": job.first_column, "batch": job.batch, "worker": job.worker, "created": job.created,
        "started": job.started, "ended": job.ended,
    }  # fmt: skip


def _show_all(jobs: "list[Job]") -> None:
    if not jobs:
        typer.echo("No jobs; queue one with: studio jobs add NAME")
        return
    table = Table("job", "concept", "state", "step", "loss", "took", "error")
    for job in jobs:
        loss = "" if job.loss is None else f"{job.loss:.4f}"
        step = f"{job.step}/{job.steps}" if job.step else ""
        table.add_row(job.id[:8], job.concept, job.state, step, loss, _took(job), job.error or "")
    Console().print(table)


def _took(job: "Job") -> str:
    """How long a job has been running, or ran."""
    if job.started is None:
        return ""
    return f"{((job.ended or datetime.now(UTC)) - job.started).total_seconds():.0f} s"
