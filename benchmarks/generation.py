"""Seconds a picture through `studio.models.base_model.generate` as a ratio to diffusers' own pipeline call, in one run.

`uv run python -m benchmarks.generation`
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
from studio.models.base_model import Base, generate, load_base
from studio.models.sampling_settings import SamplingSettings
from training.reporting.html_report import table
from training.reporting.timing import Timing, interleaved, machine

OURS, SAME, PLAIN = "studio.models.base_model.generate", "diffusers", "diffusers in float32"
PROMPT = "a photo of a cat on the beach"


def by_diffusers(pipeline: StableDiffusionPipeline, settings: SamplingSettings) -> list[Image.Image]:
    """A batch of pictures as a script that uses diffusers alone generates them."""
    output: Any = pipeline(
        prompt=PROMPT,
        negative_prompt=settings.negative_prompt,
        num_images_per_prompt=settings.batch_size,
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        guidance_rescale=settings.guidance_rescale,
        generator=[torch.Generator().manual_seed(seed) for seed in range(settings.batch_size)],
    )
    return output.images


def difference(pictures: list[Image.Image], others: list[Image.Image]) -> float:
    """The mean absolute difference of two batches, of 255."""
    levels, other_levels = (np.stack([np.asarray(p, np.float32) for p in group]) for group in (pictures, others))
    return float(np.abs(levels - other_levels).mean())


def measure(
    base: Base, pipeline: StableDiffusionPipeline, settings: SamplingSettings, rounds: int
) -> tuple[list[Timing], float]:
    """The timings of one batch size, and how far our pictures are from those of diffusers."""
    seeds = range(settings.batch_size)

    def ours() -> list[Image.Image]:
        return generate(base, PROMPT, seeds, settings)

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
    """Measure, and write generation.md and generation.png."""
    torch.set_num_threads(threads)
    base = load_base("toybox", device="cpu")
    pipeline = StableDiffusionPipeline.from_pretrained(
        TOYBOX, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    groups, rows, apart = {}, [], []
    for batch in (1, 4):
        timings, distance = measure(
            base, pipeline, SamplingSettings(num_inference_steps=steps, batch_size=batch), rounds
        )
        groups[f"batch {batch}"] = timings
        for timing in timings:
            each = f"{np.median(timing.seconds) / batch:.3f}"
            rows.append([str(batch), timing.name, each, *timing.cells()])
        apart.append(f"{distance:.2f}")
    text = (
        f"# Generating with toybox\n\n{machine()} {base.side}x{base.side} pixels, {steps} steps, guidance, {rounds} "
        f"interleaved rounds; ratios are to {SAME} in the same round, which has our precision (bfloat16 autocast where "
        "the machine has it). The two generate the same pictures but for rounding: they differ by "
        f"{' and '.join(apart)} of 255 on average.\n\n"
        + table(("batch", "implementation", "seconds a picture", *TIMING_COLUMNS), rows)
    )
    write_results(results, "generation", text, SAME, groups)


if __name__ == "__main__":
    typer.run(main)
