"""The `studio` command."""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from concepts.environment import DATABASE_VARIABLE
from concepts.errors import StudioError
from ui.cli import (
    adapters,
    analyse,
    annotate,
    base,
    batch,
    concept,
    doctor,
    evaluate,
    generate,
    hub,
    import_export,
    jobs,
    lora,
    merge,
    study,
    train,
    ui,
)
from ui.cli.options import (
    DEFAULT_LIBRARY,
    BaseOption,
    DatabaseOption,
    JsonOption,
    LibraryOption,
    errors,
    pictures_in,
    report,
    workflow_of,
    writable,
)
from ui.cli.surroundings import check_surroundings

app = typer.Typer(
    help="Train concepts for a diffusion model from a few pictures each, and generate several of them in one image.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(concept.app, name="concept")
app.add_typer(base.app, name="base")
app.add_typer(study.app, name="study")
app.add_typer(jobs.app, name="jobs")
app.add_typer(lora.app, name="lora")
app.command()(jobs.worker)
app.command()(batch.batch)
app.command()(adapters.adapters)
app.command()(analyse.analyse)
app.command()(ui.ui)
app.command()(generate.generate)
app.command()(merge.merge)
app.command()(train.train)
app.command()(train.recipe)
app.command()(import_export.export)
app.command("import")(import_export.import_file)
app.command()(annotate.caption)
app.command()(annotate.mask)
app.command()(evaluate.evaluate)
app.command()(hub.push)
app.command()(hub.pull)
app.command()(doctor.doctor)


@app.callback()
def studio(database: DatabaseOption = None) -> None:
    """Options of every command."""
    if database is not None:
        os.environ[DATABASE_VARIABLE] = database


def main() -> None:
    """Runs the command; bad input ends with exit status 2 and an error message on stderr."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' own progress bars, which would mix with ours
    for library in ("DIFFUSERS", "TRANSFORMERS", "HF_HUB"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")  # read when the library is imported
    for library in ("diffusers", "transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        check_surroundings(sys.argv[1:])
        app()
    except Exception as error:
        from ui.services.error_messages import USER_ERRORS, sentence

        if not isinstance(error, USER_ERRORS):
            raise
        errors.print("Error:", style="red", end=" ")
        errors.print(sentence(error), markup=False, soft_wrap=True)
        sys.exit(2)


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", callback=writable, help="The folder for images and report.")
    ] = Path("studio-demo"),
    library: Annotated[
        str | None, typer.Option("--library", help="The library to use; a new one in the output folder if unset.")
    ] = None,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Train two of the sample concepts, generate them alone and together, and score the images."""
    from ui.cli.demo_run import run_demo

    document = run_demo(output, library or str(output / "library"), base)
    report(document, as_json, lambda: typer.echo(f"Done. Open {document['report']}"))


@app.command()
def score(
    pictures: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    prompt: Annotated[str, typer.Option(help="The prompt to compare with; concepts are written <NAME>.")],
    reference: Annotated[
        list[Path], typer.Option("--reference", help="A reference picture, or a folder of them.")
    ] = [],  # noqa: B006
    backbone: Annotated[
        str,
        typer.Option(
            help="The CLIP model: toybox-clip, an open_clip folder, or MODEL/WEIGHTS such as ViT-B-32/openai."
        ),
    ] = "toybox-clip",
    library: LibraryOption = DEFAULT_LIBRARY,
    as_json: JsonOption = False,
) -> None:
    """Score images by their alignment with a prompt, and with reference pictures."""
    from concepts.images.upload_checks import read_picture
    from ui.services.workflow import summary

    files, others = pictures_in(pictures), pictures_in(reference)
    workflow = workflow_of(library, "toybox", backbone=backbone)
    loaded, references = ([read_picture(f, str(f)) for f in group] for group in (files, others))
    if not loaded:
        raise StudioError("The folder has no pictures. Give at least one.")
    scores = workflow.score(loaded, workflow.plain(prompt), references)
    rows = [
        {"picture": str(file), "image_alignment": image, "text_alignment": text}
        for file, image, text in zip(files, scores.image or [None] * len(files), scores.text, strict=True)
    ]
    document = {**summary(scores), "pictures": rows}
    report(document, as_json, lambda: _show_scores(document))


def _show_scores(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("picture", "image alignment", "text alignment", title=f"scored by {document['backbone']}")
    for row in [*document["pictures"], {"picture": "mean", **document}]:
        values = (row["image_alignment"], row["text_alignment"])
        name = "mean" if "pictures" in row else row["picture"]
        table.add_row(escape(name), *("" if value is None else f"{value:.3f}" for value in values))
    Console().print(table)


if __name__ == "__main__":
    main()
