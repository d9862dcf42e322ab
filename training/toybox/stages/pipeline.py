"""Toybox as a diffusers pipeline: assembles it, writes it, and generates sample sheets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from studio.models.loading import DEFAULTS
from training.toybox.scenes.tokenizer import write_tokenizer
from training.toybox.stages.training_log import tiled

SITES = ("attention", "up_convolution")
"""The layers that concepts adapt: attention alone is too small here to learn shapes well."""
SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "steps_offset": 1,  # of no effect with trailing steps, but diffusers warns without it
}
PROMPTS = (
    "an orange cat with brown stripes and a green collar on the beach",
    "a black cat with a white bib and wearing a red bow tie on the grass",
    "a white dog with black patches and a yellow cap in the snow",
    "a curly cream dog with a pink bow in the city",
    "a teal vase with a white zigzag on a wooden table",
    "a pink vase with yellow dots and handles at night",
    "a green robot with one white eye on a yellow background",
    "a purple robot with a teal visor in the forest",
    "a red dog on the left and a blue vase on the right on the beach",
    "a gray cat next to a yellow house in the desert",
    "a fox with white socks, a pink teapot and a green car from left to right",
    "a cup on a checkerboard",
)
"""The prompts of a sample sheet, in rows of two."""


def assemble(
    vae: AutoencoderKL, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as a pipeline."""
    absent: Any = None
    scheduler: Any = DDIMScheduler(**SCHEDULE)
    pipeline = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, scheduler, absent, absent, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write(pipeline: StableDiffusionPipeline, target: Path) -> None:
    """Writes a diffusers folder in half precision, and converts the pipeline to half precision."""
    pipeline.to(torch.float16).save_pretrained(target)
    tokenizer: Any = pipeline.tokenizer
    write_tokenizer(tokenizer, target / "tokenizer")
    (target / DEFAULTS).write_text(json.dumps({"sites": SITES}, indent=2) + "\n")


@torch.no_grad()
def sheet(pipeline: StableDiffusionPipeline, each: int = 2, steps: int = 20, guidance: float = 4.0) -> Image.Image:
    """A sample sheet: `each` pictures of each of `PROMPTS` side by side, with fixed noise."""
    prompts = [prompt for prompt in PROMPTS for _ in range(each)]
    pictures = []
    for index in range(0, len(prompts), 2 * each):
        part = prompts[index : index + 2 * each]
        noise = [torch.Generator().manual_seed(index + place) for place in range(len(part))]
        options: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": "np"}
        with torch.autocast(pipeline.device.type, torch.bfloat16):
            result: Any = pipeline(part, generator=noise, **options)
        pictures.append((result.images * 255).round().astype(np.uint8))
    return tiled(np.concatenate(pictures), 4 * each)
