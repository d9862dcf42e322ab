"""`studio study`: experiments on the sample concepts, with reports."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from studio.errors import StudioError
from ui.options import BaseOption, JsonOption, progress_bar, report

app = typer.Typer(help="Compare what the studio offers, on the sample concepts.", no_args_is_help=True)


@app.callback()
def study() -> None:
    """Compare what the studio offers, on the sample concepts."""


@app.command()
def composition(
    out: Annotated[Path, typer.Option("--out", help="The study's folder; what it holds is not made again.")] = Path(
        "studio-study-composition"
    ),
    counts: Annotated[str, typer.Option(help="How many concepts are put together: some of 2,3,4,6,8.")] = "2,3,4,6,8",
    seeds: Annotated[int, typer.Option(min=1, help="How often all of it is done, with seeds from 0.")] = 3,
    pair: Annotated[
        list[str] | None,
        typer.Option(help="ADAPTER+MERGE, with +average or a variant as in +few_sites; repeatable; all if unset."),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="The rank of all adapters.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each concept.")] = 120,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 4,
    paint_steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 20,
    prior_pictures: Annotated[int, typer.Option(min=2, help="Prior pictures of each training.")] = 48,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Train sample concepts apart, put 2 to 8 of them together by every method, and report what is left of each."""
    from studio.diffusion import load_base
    from studio.scoring import load_scorer
    from training.studies.composition import CompositionStudy, Settings
    from training.studies.composition_report import summary, write_composition_report
    from training.studies.pairs import PAIRS, pair_from

    numbers, chosen = _numbers(counts), [pair_from(text) for text in pair] if pair else PAIRS
    loaded, scorer = load_base(base, out / "columns"), load_scorer()
    settings = Settings(
        loaded.decomposition.fingerprint, rank, steps, prior_pictures=prior_pictures, pictures=pictures,
        paint_steps=paint_steps,
    )  # fmt: skip
    work = CompositionStudy(out, loaded, scorer, settings)
    with progress_bar() as bar:
        task = bar.add_task("composing", total=len(numbers) * len(chosen) * seeds, note="")

        def told(row: dict[str, Any]) -> None:
            bar.update(task, advance=1, note=f"{row['pair']}, {row['count']} concepts: {row['alone_identity']:.2f}")

        rows = work.run(numbers, range(seeds), chosen, told)
    written = write_composition_report(out, rows, asdict(settings), scorer.backbone)
    document = {"backbone": scorer.backbone, "report": str(written), "rows": rows, "summary": summary(rows)}
    report(document, as_json, lambda: typer.echo(f"Done. Open {written}"))


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise StudioError(f"Write --counts as numbers with commas, as in 2,3,4: {text!r} is not.") from error
