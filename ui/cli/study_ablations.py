"""`studio study ablations`: the variants of Hydra, LoRA-XS and AdaLink."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ui.cli.options import BaseOption, JsonOption
from ui.cli.study_options import (
    InferenceStepsOption,
    OnlyReportOption,
    OnRow,
    OutputOption,
    PriorOption,
    PublishOption,
    QuickOption,
    finish,
    require_rows,
    run_with_progress,
    with_presets,
)

ABLATIONS_QUICK: dict[str, Any] = {"concepts": 1, "seeds": 1, "steps": 60, "num_images": 1, "num_inference_steps": 10}


def ablations(
    context: typer.Context,
    output: OutputOption = Path("studio-study-ablations"),
    group: Annotated[
        list[str] | None,
        typer.Option(help="A group of variants: hydra, hydra_location, lora_xs or ada_link; repeatable; all if unset."),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum of trained parameters in Hydra's groups; those of LoRA at rank 8 if unset."),
    ] = None,
    concepts: Annotated[int, typer.Option(min=1, max=3, help="Number of sample concepts.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Number of repetitions, with the seeds 0, 1 and so on.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 120,
    num_images: Annotated[int, typer.Option(min=1, help="Number of images per prompt, of four prompts.")] = 2,
    num_inference_steps: InferenceStepsOption = 20,
    num_class_images: PriorOption = 48,
    base: BaseOption = "toybox",
    quick: QuickOption = False,
    only_report: OnlyReportOption = False,
    publish: PublishOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train sample concepts with the variants of Hydra, LoRA-XS and AdaLink, and report how well each is learned."""
    from studio.adapters.cost import num_parameters, shapes_of
    from studio.adapters.lora import Lora
    from studio.metrics.clip import load_scorer
    from studio.models.base_model import load_base
    from training.studies.ablations import CONCEPTS, GROUPS, AblationStudy, Settings
    from training.studies.ablations_report import ablations_page

    given = with_presets(context, ABLATIONS_QUICK if quick else {})
    loaded, scorer = load_base(base, output / "columns"), load_scorer()
    shapes = shapes_of(loaded.sites_of(loaded.default_target_modules))
    settings = Settings(
        loaded.decomposition.fingerprint, budget or num_parameters("lora", Lora.Config(rank=8), shapes), given["steps"],
        num_class_images, given["num_images"], given["num_inference_steps"],
    )  # fmt: skip
    work, groups = AblationStudy(output, loaded, scorer, settings), group or [*GROUPS]
    names, numbers = CONCEPTS[: given["concepts"]], range(given["seeds"])

    def run(on_row: OnRow) -> list[dict[str, Any]]:
        return work.run(groups, names, numbers, on_row)

    total = sum(len(GROUPS.get(each, {})) for each in groups) * len(names) * len(numbers)
    rows = work.rows.found() if only_report else run_with_progress(total, run, "variant")
    page = ablations_page(output, require_rows(rows), asdict(settings), scorer.backbone)
    finish(context, page, output, publish, as_json, {"backbone": scorer.backbone, "rows": rows})
