"""Time of our loop's step at Stable Diffusion 1.5's size as a ratio to diffusers' train_dreambooth_lora, in one run.

`uv run python -m benchmarks.training`; the weights are random, and the latents are cached.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.optimization import get_scheduler
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from benchmarks.common import RESULTS, TIMING_COLUMNS, write_results
from studio.bundled import TOYBOX
from studio.models.architectures import ARCHITECTURES
from studio.models.base_model import Base
from training.config.recipe import Recipe
from training.config.recipe_resolution import adapter_config
from training.data.dataset import TrainingSet
from training.engine.training_task import Task
from training.reporting.html_report import table
from training.reporting.timing import Timing, interleaved, machine
from training.studies.timed_operations import random_set, step_of_training

PRESERVATION = Recipe().output_preservation_weight
OURS, PRESERVING = "studio", f"studio, output_preservation_weight {PRESERVATION:g}"
REFERENCE, EAGER = "diffusers and PEFT", "diffusers and PEFT, eager attention"
UNET_TARGETS = ["to_k", "to_q", "to_v", "to_out.0", "add_k_proj", "add_v_proj"]
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]
"""What the script adapts: the sites of our attention kind."""
STEPS = 1000


def random_pipeline(device: str) -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 with random weights, toybox's tokenizer, and an unused autoencoder."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "block_out_channels": (32,) * 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    models: dict[str, Any] = ARCHITECTURES["sd15"]()
    length = models["text_encoder"].config.max_position_embeddings
    parts: dict[str, Any] = {
        **models,
        "vae": AutoencoderKL(**sizes),
        "tokenizer": CLIPTokenizer.from_pretrained(TOYBOX / "tokenizer", model_max_length=length),
        "scheduler": DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
        ),
        "safety_checker": None,
        "feature_extractor": None,
    }
    pipeline = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipeline.to(device)
    pipeline.unet.to(memory_format=torch.channels_last)  # as `studio.models.base_model.load_base` does
    return pipeline


def by_diffusers(
    parts: dict[str, Any], tokenizer: Any, scheduler: Any, data: TrainingSet, recipe: Recipe, dtype: torch.dtype
) -> Callable[[], None]:
    """A step of examples/dreambooth/train_dreambooth_lora.py with --train_text_encoder, --with_prior_preservation and
    --mixed_precision, which keeps frozen weights in that precision; what it trains is float32.
    """
    unet, text_encoder = parts["unet"].to(dtype), parts["text_encoder"].to(dtype)
    options: Any = {"r": recipe.rank, "lora_alpha": recipe.rank, "init_lora_weights": "gaussian"}
    unet.add_adapter(LoraConfig(**options, target_modules=UNET_TARGETS))
    text_encoder.add_adapter(LoraConfig(**options, target_modules=TEXT_TARGETS))
    cast_training_params([unet, text_encoder], torch.float32)
    trained = [p for part in (unet.train(), text_encoder.train()) for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    pace = get_scheduler("constant", optimizer)
    half = recipe.batch_size // 2
    latents = torch.stack([s.latents for s in (*data.concept[:half], *data.class_prior[:half])]).to(dtype)
    prompts = ["a photo of a cat"] * recipe.batch_size
    ids = tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids.to(latents.device)

    def step() -> None:
        noise = torch.randn_like(latents)
        timesteps = torch.randint(len(scheduler), (len(latents),), device=latents.device)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        with torch.autocast(latents.device.type, dtype, enabled=dtype != torch.float32):
            predicted = unet(noisy, timesteps, text_encoder(ids)[0], return_dict=False)[0]
        own, prior = (
            F.mse_loss(*pair) for pair in zip(predicted.float().chunk(2), noise.float().chunk(2), strict=True)
        )
        (own + prior).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        pace.step()
        optimizer.zero_grad()
        (own + prior).item()

    return step


def with_attention(unet: Any, processor: Any, step: Callable[[], None]) -> Callable[[], None]:
    """The step with this attention in the UNet."""

    def taken() -> None:
        unet.set_attn_processor(processor)
        step()

    return taken


def measure(device: str, side: int, recipe: Recipe, rounds: int) -> list[Timing]:
    """Every contender once a round; they share the latents, the batch, the rank and the sites."""
    pipeline = random_pipeline(device)
    copies: dict[str, Any] = {"unet": deepcopy(pipeline.unet), "text_encoder": deepcopy(pipeline.text_encoder)}
    base = Base("random sd15", pipeline)
    data = random_set(base, side)
    dtype = getattr(torch, recipe.mixed_precision)
    reference = by_diffusers(copies, pipeline.tokenizer, pipeline.scheduler, data, recipe, dtype)
    preserving = recipe.model_copy(update={"output_preservation_weight": PRESERVATION})
    config = adapter_config(recipe)
    task = Task(base, "tom", "cat", [], preserving, config)
    adapters = task.adapters()
    with task.ready(adapters):  # of the preserving one, which needs more tokens
        return interleaved(
            {
                OURS: step_of_training(Task(base, "tom", "cat", [], recipe, config), data, adapters),
                PRESERVING: step_of_training(task, data, adapters),
                REFERENCE: with_attention(copies["unet"], AttnProcessor2_0(), reference),
                EAGER: with_attention(copies["unet"], AttnProcessor(), reference),
            },
            REFERENCE,
            rounds,
        )


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 12,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    side: Annotated[int, typer.Option(min=8, help="Side of the latents; Stable Diffusion 1.5 generates 64.")] = 32,
    batch: Annotated[int, typer.Option(min=2, help="Batch size, half of it class images.")] = 2,
    rank: Annotated[int, typer.Option(min=1, help="The LoRA's rank.")] = 8,
    precision: Annotated[str, typer.Option(help="Mixed precision: bfloat16 or float32.")] = "bfloat16",
    results: Annotated[Path, typer.Option(help="Where the table and the plot go.")] = RESULTS,
) -> None:
    """Measure, and write training.md and training.png."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = Recipe.model_validate({
        "adapter": "lora", "rank": rank, "batch_size": batch, "prior_ratio": 0.5,
        "output_preservation_weight": 0.0, "train_token": False,
        "mixed_precision": precision, "steps": STEPS, "lr_scheduler": "constant",
    })  # fmt: skip
    timings = measure(device, side, recipe, rounds)
    text = (
        f"# A training step at Stable Diffusion 1.5's size\n\n{machine()} On {device}, random weights, cached "
        f"latents {side}x{side} ({8 * side} pixels), LoRA of rank {rank} in all attention layers of UNet and text "
        f"encoder, batch {batch} with half of it class images, mixed_precision {precision}, AdamW, {rounds} "
        f"interleaved rounds; ratios are to {REFERENCE} in the same round: diffusers' train_dreambooth_lora, which "
        f"keeps frozen weights in {precision}, here without its data loader and logs. "
        f"{PRESERVING} is our default loss, which also evaluates the frozen layers.\n\n"
        + table(("implementation", *TIMING_COLUMNS), [[t.name, *t.cells()] for t in timings])
    )
    write_results(results, "training", text, REFERENCE, {"a training step": timings})


if __name__ == "__main__":
    typer.run(main)
