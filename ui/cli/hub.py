"""`studio push` and `studio pull`: concepts on the Hugging Face Hub."""

from typing import Annotated

import typer

from ui.cli.concept import Name, described
from ui.cli.options import DEFAULT_LIBRARY, BaseOption, JsonOption, LibraryOption, notify, report, workflow_of


def push(
    name: Name,
    to: Annotated[str, typer.Option("--to", help="The repository, USER/NAME; created if it does not exist.")],
    licence: Annotated[
        str | None, typer.Option(help="The licence of the upload, by its name on the Hub, such as cc-by-4.0.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create the repository as private.")] = False,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Upload a concept to the Hugging Face Hub, with a model card."""
    from studio.models.families import licence_note
    from ui.services import hub

    workflow = workflow_of(library, base)
    if terms := licence_note(workflow.family):
        notify(terms)
    address = hub.push(workflow, name, to, licence, private)
    report(
        {"name": name, "repository": to, "address": address}, as_json, lambda: typer.echo(f"Pushed {name}: {address}")
    )


def pull(
    repository: Annotated[str, typer.Argument(help="A repository that studio push wrote, USER/NAME.")],
    name: Annotated[str | None, typer.Option(help="Another name for the concept; its own if unset.")] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Download a concept that studio push uploaded to the Hugging Face Hub into the library."""
    from ui.services import hub

    concept = hub.pull(workflow_of(library, base), repository, name)
    for block in concept.columns:
        if shared := block.note():
            notify(shared)
    report(
        described(concept),
        as_json,
        lambda: typer.echo(f'Pulled {concept.name}; now generate it: studio generate "a photo of <{concept.name}>"'),
    )
