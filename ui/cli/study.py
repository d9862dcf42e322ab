"""`studio study`: benchmarks on the sample concepts, with reports."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ui.cli.options import BaseOption, JsonOption
from ui.cli.study_options import (
    OnRow,
    finish,
    layers_from,
    numbers_from,
    rates_from,
    require_rows,
    run_with_progress,
    with_presets,
)

app = typer.Typer(help="Benchmark adapters and merge methods on the sample concepts.", no_args_is_help=True)

OutOption = Annotated[Path, typer.Option("--out", help="The study's folder; existing rows are reused.")]
InferenceStepsOption = Annotated[int, typer.Option(min=1, help="Denoising steps.")]
PriorOption = Annotated[int, typer.Option(min=2, help="Class images of each training, for the prior loss.")]
QuickOption = Annotated[
    bool,
    typer.Option(
        "--quick", help="Smaller defaults, under 15 minutes on two idle cores; options that are set keep their value."
    ),
]
PublishOption = Annotated[
    Path | None, typer.Option(help="Also write a Markdown page with its figures into this folder, as for docs/studies.")
]
OnlyReportOption = Annotated[
    bool,
    typer.Option("--only-report", help="Do not train; report on the existing rows, for example of a stopped study."),
]


@app.callback()
def study() -> None:
    """Benchmark adapters and merge methods on the sample concepts."""


COMPOSITION_QUICK: dict[str, Any] = {
    "counts": "2,4", "seeds": 1, "steps": 60, "pictures": 1, "num_inference_steps": 10,
    "pair": [
        "spectral_additive+spectral", "spectral_additive+unmerged", "spectral_additive+spectral+bottom_columns",
        "spectral_additive+spectral+random_columns", "lora+fedavg",
    ],
}  # fmt: skip


@app.command()
def composition(
    context: typer.Context,
    out: OutOption = Path("studio-study-composition"),
    counts: Annotated[str, typer.Option(help="Numbers of concepts to merge, out of 1,2,3,4,6,8.")] = "2,3,4,6,8",
    seeds: Annotated[int, typer.Option(min=1, help="Number of repetitions, with seeds from 0.")] = 3,
    pair: Annotated[
        list[str] | None,
        typer.Option(help="ADAPTER+MERGE, with +average or a variant as in +few_sites; repeatable; all if unset."),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="The rank of all adapters.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each concept.")] = 120,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 4,
    num_inference_steps: InferenceStepsOption = 20,
    num_class_images: PriorOption = 48,
    base: BaseOption = "toybox",
    quick: QuickOption = False,
    only_report: OnlyReportOption = False,
    publish: PublishOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train sample concepts, merge 2 to 8 of them by every method, and report how well each is preserved."""
    from studio.metrics.clip import load_scorer
    from studio.models.base_model import load_base
    from training.studies.composition import CompositionStudy, Settings
    from training.studies.composition_report import composition_page, summary
    from training.studies.pairs import PAIRS, pair_from

    given = with_presets(context, COMPOSITION_QUICK if quick else {})
    numbers, chosen = numbers_from(given["counts"]), [pair_from(text) for text in given["pair"] or ()] or PAIRS
    loaded, scorer = load_base(base, out / "columns"), load_scorer()
    settings = Settings(
        loaded.decomposition.fingerprint, rank, given["steps"], num_class_images=num_class_images,
        pictures=given["pictures"], num_inference_steps=given["num_inference_steps"],
    )  # fmt: skip
    work = CompositionStudy(out, loaded, scorer, settings)

    def run(on_row: OnRow) -> list[dict[str, Any]]:
        return work.run(numbers, range(given["seeds"]), chosen, on_row)

    rows = (
        work.rows.found()
        if only_report
        else run_with_progress(len(numbers) * len(chosen) * given["seeds"], run, "pair")
    )
    page = composition_page(out, require_rows(rows), asdict(settings), scorer.backbone)
    finish(context, page, out, publish, as_json, {"backbone": scorer.backbone, "rows": rows, "summary": summary(rows)})


EFFICIENCY_QUICK: dict[str, Any] = {
    "budgets": 2, "concepts": 1, "seeds": 1, "steps": 60, "search_steps": 60, "rates": "5e-3,2e-2", "pictures": 1,
}  # fmt: skip


@app.command()
def efficiency(
    context: typer.Context,
    out: OutOption = Path("studio-study-efficiency"),
    method: Annotated[list[str] | None, typer.Option(help="A method to compare; repeatable; all if unset.")] = None,
    budgets: Annotated[int, typer.Option(min=1, max=4, help="Number of sizes of each method.")] = 4,
    concepts: Annotated[int, typer.Option(min=1, max=3, help="Number of sample concepts.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Number of repetitions, with seeds from 0.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 120,
    search_steps: Annotated[int, typer.Option(min=1, help="Training steps in the search of learning rates.")] = 60,
    rates: Annotated[
        str, typer.Option(help="Learning rates to search, the same for all methods.")
    ] = "1e-3,3e-3,1e-2,3e-2",
    pictures: Annotated[int, typer.Option(min=1, help="Pictures of each of four prompts.")] = 2,
    sites: Annotated[str, typer.Option(help="Layers to adapt, with commas; the base's own if empty.")] = "attention",
    num_inference_steps: InferenceStepsOption = 20,
    num_class_images: PriorOption = 48,
    base: BaseOption = "toybox",
    quick: QuickOption = False,
    only_report: OnlyReportOption = False,
    publish: PublishOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train sample concepts by every method at several sizes, and report alignment against trained parameters.

    The full study is some 190 trainings and 120 short ones for the learning rates: about three hours on two idle cores.
    """
    from studio.metrics.clip import load_scorer
    from studio.models.base_model import load_base
    from training.studies.budgets import METHODS
    from training.studies.efficiency import CONCEPTS, EfficiencyStudy, Settings
    from training.studies.efficiency_report import efficiency_page, summary

    given = with_presets(context, EFFICIENCY_QUICK if quick else {})
    loaded, scorer = load_base(base, out / "columns"), load_scorer()
    settings = Settings(
        loaded.decomposition.fingerprint, given["steps"], given["search_steps"], rates_from(given["rates"]),
        num_class_images=num_class_images, pictures=given["pictures"], num_inference_steps=num_inference_steps,
        sites=layers_from(sites) or loaded.default_target_modules,
    )  # fmt: skip
    work = EfficiencyStudy(out, loaded, scorer, settings)
    sizes = work.sizes(method or METHODS, given["budgets"])
    names = CONCEPTS[: given["concepts"]]
    trainings = len(names) * given["seeds"]

    def run(on_row: OnRow) -> list[dict[str, Any]]:
        return work.run(sizes, names, range(given["seeds"]), on_row)

    total = len(sizes) * (trainings + len(settings.rates)) + trainings
    rows = work.found(sizes) if only_report else run_with_progress(total, run, "method")
    page = efficiency_page(out, require_rows(rows), asdict(settings), scorer.backbone)
    finish(context, page, out, publish, as_json, {"backbone": scorer.backbone, "rows": rows, "summary": summary(rows)})


COST_QUICK: dict[str, Any] = {"rounds": 3, "pictures": 4, "num_inference_steps": 5}


@app.command()
def cost(
    context: typer.Context,
    out: OutOption = Path("studio-study-cost"),
    method: Annotated[list[str] | None, typer.Option(help="A method to measure; repeatable; all if unset.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Number of timed steps.")] = 15,
    pictures: Annotated[int, typer.Option(min=1, help="Number of pictures to time generation with.")] = 8,
    num_inference_steps: InferenceStepsOption = 20,
    base: BaseOption = "toybox",
    quick: QuickOption = False,
    only_report: OnlyReportOption = False,
    publish: PublishOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the time, memory and file size of every adapter, on a base and at Stable Diffusion's layer sizes."""
    import torch

    from studio.adapters import ADAPTERS
    from studio.adapters.registry import method_named
    from studio.models.base_model import load_base
    from training.reporting.timing import machine
    from training.studies.cost import CostStudy, Settings, widths
    from training.studies.cost_report import cost_page
    from training.studies.timed_operations import NO_LAYER

    given = with_presets(context, COST_QUICK if quick else {})
    loaded, chosen = load_base(base, out / "columns"), method or [*ADAPTERS]
    for name in chosen:
        method_named(name)
    settings = Settings(
        loaded.decomposition.fingerprint, base, given["rounds"], given["pictures"], given["num_inference_steps"],
        torch.get_num_threads(), machine(),
    )  # fmt: skip
    work = CostStudy(out, loaded, settings)

    def run(on_row: OnRow) -> list[dict[str, Any]]:
        return work.run(chosen, on_row)

    total = len(chosen) + len(widths()) * len([name for name in chosen if name not in NO_LAYER])
    rows = work.rows.found() if only_report else run_with_progress(total, run, "adapter")
    finish(context, cost_page(require_rows(rows), asdict(settings)), out, publish, as_json, {"rows": rows})
