"""The `studio` command."""

import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from concepts import LibraryError, read_picture
from concepts.database import DATABASE_VARIABLE
from concepts.images import picture_files
from studio.errors import StudioError
from ui import (
    adapters_cli,
    annotate_cli,
    base_cli,
    batch_cli,
    concept_cli,
    evaluate_cli,
    exchange_cli,
    hub_cli,
    jobs_cli,
    page_cli,
    study_cli,
    train_cli,
)
from ui.options import (
    DEFAULT_LIBRARY,
    BaseOption,
    DatabaseOption,
    JsonOption,
    LibraryOption,
    errors,
    progress_bar,
    regions_from,
    report,
    size_from,
    strengths_from,
    tell,
    workflow_of,
)

app = typer.Typer(
    help="Teach a diffusion model new concepts from a few pictures each, and paint several of them together.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(concept_cli.app, name="concept")
app.add_typer(base_cli.app, name="base")
app.add_typer(study_cli.app, name="study")
app.add_typer(jobs_cli.app, name="jobs")
app.command()(jobs_cli.worker)
app.command()(batch_cli.batch)
app.command()(adapters_cli.adapters)
app.command()(page_cli.ui)
app.command()(train_cli.train)
app.command()(train_cli.recipe)
app.command()(exchange_cli.export)
app.command("import")(exchange_cli.import_file)
app.command()(annotate_cli.caption)
app.command()(annotate_cli.mask)
app.command()(evaluate_cli.evaluate)
app.command()(hub_cli.push)
app.command()(hub_cli.pull)


@app.callback()
def studio(database: DatabaseOption = None) -> None:
    """Options of every command."""
    if database is not None:
        os.environ[DATABASE_VARIABLE] = database


StrengthOption = Annotated[list[str], typer.Option("--strength", help="NAME=1.0: how strongly a concept acts.")]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="spectral, fedavg, gradient, orthogonal, ties, dare or svd; by default what suits the concepts' adapters.",
    ),
]
AverageOption = Annotated[
    bool, typer.Option("--average", help="Divide all strengths by the number of concepts, as 1/k.")
]


def main() -> None:
    """Runs the command; bad input ends with exit status 2 and one sentence on stderr."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' own bars; ours say more
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        app()
    except (LibraryError, StudioError, OSError) as error:
        errors.print("Error:", style="red", end=" ")
        errors.print(str(error), markup=False, soft_wrap=True)
        sys.exit(2)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Where pictures and report go.")] = Path("studio-demo"),
    library: Annotated[
        str | None, typer.Option("--library", help="The library to use; one of its own in the output folder if unset.")
    ] = None,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Learn two of the sample concepts, paint them alone and together, and score it all."""
    from ui.demo import run_demo

    document = run_demo(out, library or str(out / "library"), base)
    report(document, as_json, lambda: typer.echo(f"Done. Open {document['report']}"))


@app.command()
def merge(
    names: Annotated[list[str], typer.Argument(help="The concepts to merge.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write, NAME.safetensors.")],
    method: MethodOption = None,
    average: AverageOption = False,
    strength: StrengthOption = [],  # noqa: B006 (Typer wants a plain list)
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Write several concepts as one file, which `studio generate --concept FILE` takes."""
    if output.suffix != ".safetensors":
        raise StudioError(f"Name the file with .safetensors at its end: {output} has not.")
    merged = workflow_of(library, base).merge(names, output, method, strengths_from(strength), average, tell)
    document = {"file": str(output), **merged.metadata, "rank": merged.config.get("rank")}
    report(document, as_json, lambda: typer.echo(f"Merged {', '.join(names)} into {output}"))


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to paint; concepts are written <NAME>.")],
    concept: Annotated[list[str], typer.Option("--concept", help="A concept, or a merged file, to load as well.")] = [],  # noqa: B006
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="As for studio merge, or unmerged: each concept acts on its own, one with a region only inside it.",
        ),
    ] = None,
    average: AverageOption = False,
    strength: StrengthOption = [],  # noqa: B006
    number: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 4,
    seed: Annotated[int, typer.Option(help="The first picture's seed; the next has the next number.")] = 0,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="How strictly the prompt is followed.")] = 4.0,
    negative: Annotated[str, typer.Option(help="What the picture should not show.")] = "",
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT in pixels; what the base was trained on if unset.")
    ] = None,
    region: Annotated[list[str], typer.Option("--region", help="NAME:top,left,bottom,right, a concept's place.")] = [],  # noqa: B006
    condition: Annotated[
        list[str], typer.Option("--condition", help="KIND:PICTURE, a sketch, pose or depth map to follow.")
    ] = [],  # noqa: B006
    condition_model: Annotated[
        list[str], typer.Option("--condition-model", help="KIND:FOLDER or KIND:HUB_ID, its T2IAdapter or ControlNet.")
    ] = [],  # noqa: B006
    condition_strength: Annotated[
        list[str], typer.Option("--condition-strength", help="KIND=1.0: how strictly it is followed.")
    ] = [],  # noqa: B006
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder for the pictures.")] = Path(
        "studio-pictures"
    ),
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Paint pictures of a prompt, with the concepts that it names."""
    from studio.paint_settings import PaintSettings, check_seeds
    from ui.conditions import conditions_followed
    from ui.pictures import png_bytes, save_new
    from ui.request import PaintRequest

    workflow = workflow_of(library, base)
    strengths, boxes = strengths_from(strength), regions_from(region)
    settings = PaintSettings(steps=steps, guidance=guidance, negative_prompt=negative, size=size_from(size))
    seeds = range(seed, seed + number)
    check_seeds(seeds)
    request = PaintRequest(
        prompt=prompt, concepts=tuple(concept), method=method, strengths=strengths, average=average, seed=seed,
        number=number, steps=steps, guidance=guidance, negative_prompt=negative, regions=boxes,
        size=settings.size,
    )  # fmt: skip
    following = conditions_followed(workflow, condition, condition_model, condition_strength)
    with following, progress_bar() as bar:
        task = bar.add_task("painting", total=steps * -(-number // settings.batch), note="")
        pictures = workflow.generate(
            prompt, concept, method, strengths, seeds, boxes, settings, lambda: bar.advance(task), average, tell
        )
    kept = {"base": base, "conditions": ", ".join(condition), "condition_models": ", ".join(condition_model)}
    output.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] or "picture"
    files = [
        str(save_new(output, f"{stem}-{number}", png_bytes(picture, {**request.text(number), **kept})))
        for number, picture in zip(seeds, pictures, strict=True)
    ]
    report({"prompt": prompt, "pictures": files}, as_json, lambda: typer.echo("\n".join(files)))


@app.command()
def score(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    prompt: Annotated[str, typer.Option(help="What they should show, in plain words or with <NAME>.")],
    reference: Annotated[list[Path], typer.Option("--reference", help="A picture or folder to be near to.")] = [],  # noqa: B006
    backbone: Annotated[
        str, typer.Option(help="toybox-clip, an open_clip folder, or MODEL/WEIGHTS of open_clip.")
    ] = "toybox-clip",
    library: LibraryOption = DEFAULT_LIBRARY,
    _base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Score pictures: alignment with a prompt, and with reference pictures."""
    from ui.workflow import summary

    files, others = picture_files(pictures), picture_files(reference)
    workflow = workflow_of(library, "toybox", backbone=backbone)
    loaded, references = ([read_picture(f, str(f)) for f in group] for group in (files, others))
    if not loaded:
        raise StudioError("Give at least one picture: the folder holds none.")
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
