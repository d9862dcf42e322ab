"""`studio study`: benchmarks on the sample concepts, with reports."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ui.cli.options import BaseOption, JsonOption
from ui.cli.study_ablations import ablations
from ui.cli.study_options import (
    AdapterOption,
    InferenceStepsOption,
    OnlyReportOption,
    OnRow,
    OutputOption,
    PriorOption,
    PublishOption,
    QuickOption,
    finish,
    layers_from,
    numbers_from,
    rates_from,
    require_rows,
    run_with_progress,
    with_presets,
)

app = typer.Typer(help="Benchmark adapters and merge methods on the sample concepts.", no_args_is_help=True)
app.command()(ablations)


@app.callback()
def study() -> None:
    """Benchmark adapters and merge methods on the sample concepts."""


COMPOSITION_QUICK: dict[str, Any] = {
    "counts": "2,4", "seeds": 1, "steps": 60, "num_images": 1, "num_inference_steps": 10,
    "pair": [
        "spectral_additive+spectral", "spectral_additive+unmerged", "spectral_additive+spectral+bottom_columns",
        "spectral_additive+spectral+random_columns", "lora+fedavg",
    ],
}  # fmt: skip


@app.command()
def composition(
    context: typer.Context,
    output: OutputOption = Path("studio-study-composition"),
    counts: Annotated[
        str, typer.Option(help="Numbers of concepts to merge, separated by commas: some of 1,2,3,4,6,8.")
    ] = "2,3,4,6,8",
    seeds: Annotated[int, typer.Option(min=1, help="Number of repetitions, with the seeds 0, 1 and so on.")] = 3,
    pair: Annotated[
        list[str] | None,
        typer.Option(
            help="ADAPTER+METHOD, with a merge method or unmerged; then +average to divide the strengths by the number "
            "of concepts, and one of +no_prior, +no_preservation_loss, +few_sites (target_modules cross_attention_kv "
            "and text_attention), +in_token, +bottom_columns and +random_columns; 23 pairs if unset."
        ),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="The rank of all adapters.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each concept.")] = 120,
    num_images: Annotated[int, typer.Option(min=1, help="Number of images per prompt.")] = 4,
    num_inference_steps: InferenceStepsOption = 20,
    num_class_images: PriorOption = 48,
    base: BaseOption = "toybox",
    quick: QuickOption = False,
    only_report: OnlyReportOption = False,
    publish: PublishOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train sample concepts with several adapters, merge 2 to 8 of them by several methods, and report how well each is
    preserved.
    """
    from studio.metrics.clip import load_scorer
    from studio.models.base_model import load_base
    from training.studies.composition import CompositionStudy, Settings
    from training.studies.composition_report import composition_page, summary
    from training.studies.pairs import PAIRS, pair_from

    given = with_presets(context, COMPOSITION_QUICK if quick else {})
    numbers, chosen = numbers_from(given["counts"]), [pair_from(text) for text in given["pair"] or ()] or PAIRS
    loaded, scorer = load_base(base, output / "columns"), load_scorer()
    settings = Settings(
        loaded.decomposition.fingerprint, rank, given["steps"], num_class_images=num_class_images,
        pictures=given["num_images"], num_inference_steps=given["num_inference_steps"],
    )  # fmt: skip
    work = CompositionStudy(output, loaded, scorer, settings)

    def run(on_row: OnRow) -> list[dict[str, Any]]:
        return work.run(numbers, range(given["seeds"]), chosen, on_row)

    rows = (
        work.rows.found()
        if only_report
        else run_with_progress(len(numbers) * len(chosen) * given["seeds"], run, "pair")
    )
    page = composition_page(output, require_rows(rows), asdict(settings), scorer.backbone)
    finish(
        context, page, output, publish, as_json, {"backbone": scorer.backbone, "rows": rows, "summary": summary(rows)}
    )


EFFICIENCY_QUICK: dict[str, Any] = {
    "budgets": 2, "concepts": 1, "seeds": 1, "steps": 60, "search_steps": 60, "rates": "5e-3,2e-2", "num_images": 1,
}  # fmt: skip


@app.command()
def efficiency(
    context: typer.Context,
    output: OutputOption = Path("studio-study-efficiency"),
    adapter: AdapterOption = None,
    budgets: Annotated[
        int, typer.Option(min=1, max=4, help="Number of sizes of each adapter, from small to large.")
    ] = 4,
    concepts: Annotated[int, typer.Option(min=1, max=3, help="Number of sample concepts.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Number of repetitions, with the seeds 0, 1 and so on.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 120,
    search_steps: Annotated[int, typer.Option(min=1, help="Training steps for each learning rate to try.")] = 60,
    rates: Annotated[
        str, typer.Option(help="Learning rates to try for each adapter, separated by commas.")
    ] = "1e-3,3e-3,1e-2,3e-2",
    num_images: Annotated[int, typer.Option(min=1, help="Number of images per prompt, of four prompts.")] = 2,
    target_modules: Annotated[
        str, typer.Option(help="Target modules, separated by commas; the base's default if empty.")
    ] = "attention",
    num_inference_steps: InferenceStepsOption = 20,
    num_class_images: PriorOption = 48,
    base: BaseOption = "toybox",
    quick: QuickOption = False,
    only_report: OnlyReportOption = False,
    publish: PublishOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train sample concepts with nine adapters in several sizes, and with all others once, and report alignment against
    trained parameters.

    The full study takes about three hours on two CPU cores: 210 trainings, and 120 short ones for the learning rates.
    """
    from studio.metrics.clip import load_scorer
    from studio.models.base_model import load_base
    from training.studies.budgets import METHODS, OTHERS
    from training.studies.efficiency import CONCEPTS, EfficiencyStudy, Settings
    from training.studies.efficiency_report import efficiency_page, summary

    given = with_presets(context, EFFICIENCY_QUICK if quick else {})
    loaded, scorer = load_base(base, output / "columns"), load_scorer()
    settings = Settings(
        loaded.decomposition.fingerprint, given["steps"], given["search_steps"], rates_from(given["rates"]),
        num_class_images=num_class_images, pictures=given["num_images"], num_inference_steps=num_inference_steps,
        sites=layers_from(target_modules) or loaded.default_target_modules,
    )  # fmt: skip
    work = EfficiencyStudy(output, loaded, scorer, settings)
    sizes = work.sizes(adapter or (*METHODS, *OTHERS), given["budgets"])
    names = CONCEPTS[: given["concepts"]]

    def run(on_row: OnRow) -> list[dict[str, Any]]:
        return work.run(sizes, names, range(given["seeds"]), on_row)

    total = work.trainings(sizes, len(names), given["seeds"])
    rows = work.found(sizes) if only_report else run_with_progress(total, run, "method")
    page = efficiency_page(output, require_rows(rows), asdict(settings), scorer.backbone)
    finish(
        context, page, output, publish, as_json, {"backbone": scorer.backbone, "rows": rows, "summary": summary(rows)}
    )


COST_QUICK: dict[str, Any] = {"timed_steps": 3, "num_images": 4, "num_inference_steps": 5}


@app.command()
def cost(
    context: typer.Context,
    output: OutputOption = Path("studio-study-cost"),
    adapter: AdapterOption = None,
    timed_steps: Annotated[int, typer.Option(min=1, help="Number of timed training steps.")] = 15,
    num_images: Annotated[int, typer.Option(min=1, help="Number of images of which generation is timed.")] = 8,
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
    loaded, chosen = load_base(base, output / "columns"), adapter or [*ADAPTERS]
    for name in chosen:
        method_named(name)
    settings = Settings(
        loaded.decomposition.fingerprint, base, given["timed_steps"], given["num_images"], given["num_inference_steps"],
        torch.get_num_threads(), machine(),
    )  # fmt: skip
    work = CostStudy(output, loaded, settings)

    def run(on_row: OnRow) -> list[dict[str, Any]]:
        return work.run(chosen, on_row)

    total = len(chosen) + len(widths()) * len([name for name in chosen if name not in NO_LAYER])
    rows = work.rows.found() if only_report else run_with_progress(total, run, "adapter")
    finish(context, cost_page(require_rows(rows), asdict(settings)), output, publish, as_json, {"rows": rows})
