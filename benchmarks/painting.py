"""Seconds a picture through `studio.diffusion.paint` as a ratio to diffusers' own pipeline call, in one run.

`uv run python -m benchmarks.painting`
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline
from PIL import Image

from benchmarks.common import RESULTS, TIMING_COLUMNS, write_results
from studio.bundled import TOYBOX
from studio.diffusion import Base, load_base, paint
from studio.paint_settings import PaintSettings
from training.measuring import Timing, interleaved, machine
from training.report import table

OURS, SAME, PLAIN = "studio.diffusion.paint", "diffusers", "diffusers in float32"
PROMPT = "a photo of a cat on the beach"


def by_diffusers(pipeline: StableDiffusionPipeline, settings: PaintSettings) -> list[Image.Image]:
    """A batch of pictures as a script that uses diffusers alone paints them."""
    output: Any = pipeline(
        prompt=PROMPT,
        negative_prompt=settings.negative_prompt,
        num_images_per_prompt=settings.batch,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        guidance_rescale=settings.guidance_rescale,
        generator=[torch.Generator().manual_seed(seed) for seed in range(settings.batch)],
    )
    return output.images


def difference(pictures: list[Image.Image], others: list[Image.Image]) -> float:
    """The mean absolute difference of two batches, of 255."""
    levels, other_levels = (np.stack([np.asarray(p, np.float32) for p in group]) for group in (pictures, others))
    return float(np.abs(levels - other_levels).mean())


def measure(
    base: Base, pipeline: StableDiffusionPipeline, settings: PaintSettings, rounds: int
) -> tuple[list[Timing], float]:
    """The timings of one batch size, and how far our pictures are from those of diffusers."""
    seeds = range(settings.batch)

    def ours() -> list[Image.Image]:
        return paint(base, PROMPT, seeds, settings)

    def same() -> list[Image.Image]:
        with base.autocast():
            return by_diffusers(pipeline, settings)

    contenders = {OURS: ours, SAME: same, PLAIN: lambda: by_diffusers(pipeline, settings)}
    return interleaved(contenders, SAME, rounds), difference(ours(), same())


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds of each batch size.")] = 15,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 20,
    results: Annotated[Path, typer.Option(help="Where the table and the plot go.")] = RESULTS,
) -> None:
    """Measure, and write painting.md and painting.png."""
    torch.set_num_threads(threads)
    base = load_base("toybox", device="cpu")
    pipeline = StableDiffusionPipeline.from_pretrained(
        TOYBOX, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    groups, rows, apart = {}, [], []
    for batch in (1, 4):
        timings, distance = measure(base, pipeline, PaintSettings(steps=steps, batch=batch), rounds)
        groups[f"batch {batch}"] = timings
        for timing in timings:
            each = f"{np.median(timing.seconds) / batch:.3f}"
            rows.append([str(batch), timing.name, each, *timing.cells()])
        apart.append(f"{distance:.2f}")
    text = (
        f"# Painting with toybox\n\n{machine()} {base.side}x{base.side} pixels, {steps} steps, guidance, {rounds} "
        f"interleaved rounds; ratios are to {SAME} in the same round, which has our precision (bfloat16 autocast where "
        f"the machine has it). The two paint the same pictures but for rounding: they differ by {' and '.join(apart)} "
        "of 255 on average.\n\n" + table(("batch", "by", "seconds a picture", *TIMING_COLUMNS), rows)
    )
    write_results(results, "painting", text, SAME, groups)


if __name__ == "__main__":
    typer.run(main)
