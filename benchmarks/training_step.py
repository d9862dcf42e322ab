"""Time of a training step with our adapters as a ratio to PEFT's LoRA: same sites, rank and batch, in one run.

`uv run python -m benchmarks.training_step`
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import DDPMScheduler
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from benchmarks.common import RESULTS, TIMING_COLUMNS, write_results
from studio.adapters import ADAPTERS
from studio.adapters.injection import inject
from studio.adapters.registry import create_adapters
from studio.models.base_model import Base, load_base
from training.data.class_images import class_prompts
from training.engine.denoising_loss import denoising_loss
from training.reporting.html_report import table
from training.reporting.timing import interleaved, machine

REFERENCE = "PEFT LoRA"
RANK = 8


@dataclass(frozen=True)
class Batch:
    """What every contender trains on: latents and noise (n, channels, h, w), timesteps (n,) and prompts."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: list[str]


def make_batch(base: Base, size: int) -> Batch:
    """A batch with random latents of the base's shape: a step's time does not depend on what they show."""
    torch.manual_seed(0)
    unet = base.pipeline.unet.config
    latents, noise = torch.randn(2, size, unet.in_channels, unet.sample_size, unet.sample_size)
    return Batch(latents, noise, torch.randint(1000, (size,)), class_prompts("cat", size))


def ready_base() -> Base:
    """The bundled base with the attention that trains fastest on a CPU, as `training.engine.trainer` sets it."""
    base = load_base("toybox", device="cpu")
    base.pipeline.unet.set_attn_processor(AttnProcessor())
    base.pipeline.text_encoder.set_attn_implementation("eager")
    return base


def with_ours(adapter: str) -> tuple[Base, list[nn.Parameter]]:
    """A base with our adapter at every attention site, and what it trains."""
    base = ready_base()
    adapters = create_adapters(adapter, ADAPTERS[adapter].Config(rank=RANK), base.sites, base.decomposition)
    inject(base.sites, adapters)
    return base, [parameter for each in adapters.values() for parameter in each.parameters()]


def with_peft() -> tuple[Base, list[nn.Parameter]]:
    """A base with PEFT's LoRA at the same sites, and what it trains."""
    base = ready_base()
    for part, module in base.parts.items():
        sites = [name.removeprefix(f"{part}.") for name, site in base.sites.items() if site.part == part]
        inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=sites), module)
    parameters = [p for module in base.parts.values() for p in module.parameters() if p.requires_grad]
    return base, parameters


def stepper(base: Base, parameters: Iterable[nn.Parameter], batch: Batch) -> Callable[[], None]:
    """One step of training, as `training.engine.trainer` takes it."""
    parameters = list(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    scheduler = DDPMScheduler.from_config(base.pipeline.scheduler.config)
    assert isinstance(scheduler, DDPMScheduler)
    unet = base.pipeline.unet

    def step() -> None:
        with base.autocast():
            context = base.encode_prompts(batch.prompts)
            loss = denoising_loss(
                scheduler,
                lambda noisy, timesteps: unet(noisy, timesteps, context, return_dict=False)[0],
                batch.latents,
                batch.noise,
                batch.timesteps,
            ).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 60,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    batch_size: Annotated[int, typer.Option("--batch", min=1, help="Pictures in a step.")] = 8,
    results: Annotated[Path, typer.Option(help="Where the table and the plot go.")] = RESULTS,
) -> None:
    """Measure, and write training_step.md and training_step.png."""
    torch.set_num_threads(threads)
    models = {**{name: with_ours(name) for name in ("spectral_additive", "lora")}, REFERENCE: with_peft()}
    batch = make_batch(models[REFERENCE][0], batch_size)
    steps = {name: stepper(base, parameters, batch) for name, (base, parameters) in models.items()}
    timings = interleaved(steps, REFERENCE, rounds)
    counts = {name: f"{sum(p.numel() for p in parameters):,}" for name, (_, parameters) in models.items()}
    rows = [[timing.name, counts[timing.name], *timing.cells()] for timing in timings]
    text = (
        f"# A training step on toybox\n\n{machine()} Rank {RANK} in all {len(models[REFERENCE][0].sites)} attention "
        f"layers of UNet and text encoder, batch {batch_size}, forward, backward and AdamW, {rounds} interleaved "
        f"rounds; ratios are to {REFERENCE} in the same round.\n\n"
        + table(("adapter", "trained parameters", *TIMING_COLUMNS), rows)
    )
    write_results(results, "training_step", text, REFERENCE, {"a training step": timings})


if __name__ == "__main__":
    typer.run(main)
