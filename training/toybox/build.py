"""Trains toybox and its scorer from scratch, stage by stage, and writes them as model folders."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import CLIPTokenizer

from training.toybox.evaluation import identity_benchmark
from training.toybox.scenes.tokenizer import build_tokenizer
from training.toybox.stages import (
    autoencoder,
    denoiser,
    detector,
    detector_training,
    identity,
    pipeline,
    scorer,
    text_encoder,
)
from training.toybox.stages.denoiser import Denoiser, DenoiserRecipe, build_unet

STAGES = ("autoencoder", "text_encoder", "denoiser", "scorer", "detector", "identity")
PIPELINE_STAGES = STAGES[:3]
"""The stages of the pipeline; each needs the ones before."""


@dataclass(frozen=True)
class BaseRecipe:
    """The training steps of each stage, the device, and the folder of the training log, None for no log."""

    autoencoder_steps: int = autoencoder.STEPS
    text_encoder_steps: int = text_encoder.STEPS
    denoiser: DenoiserRecipe = field(default_factory=DenoiserRecipe)
    scorer_steps: int = scorer.STEPS
    detector_steps: int = detector_training.STEPS
    identity_steps: int = identity.STEPS
    device: str = "cpu"
    log_folder: Path | None = None


def train_base(work: Path, target: Path, recipe: BaseRecipe, stages: tuple[str, ...], start: Path | None) -> None:
    """Runs the requested stages, each resumed from its checkpoint in `work`, and writes the models to `target`.

    `target` gets the folders `toybox` (a diffusers pipeline, with the denoiser) and `toybox-clip` (an open_clip model),
    and the detector's weights go to `detector.WEIGHTS`. Stages that the denoiser needs are run before it; finished ones
    only load. With `start`, a folder of an earlier toybox, the denoiser's training starts from its models.
    """
    work.mkdir(parents=True, exist_ok=True)
    earlier = StableDiffusionPipeline.from_pretrained(start, dtype=torch.float32) if start else None
    tokenizer = earlier.tokenizer if earlier else build_tokenizer()
    if "scorer" in stages:
        model = scorer.train(work, tokenizer, recipe.device, recipe.scorer_steps)
        scorer.write(model.cpu(), tokenizer, target / scorer.NAME)
    if "detector" in stages:
        detector.write(detector_training.train(work, recipe.device, recipe.detector_steps).cpu())
    if "identity" in stages:
        identity.write(
            identity.train(work, recipe.device, recipe.identity_steps, detector.load()), target / scorer.NAME
        )
        identity_benchmark.calibrate(target / scorer.NAME)
    requested = [PIPELINE_STAGES.index(stage) for stage in stages if stage in PIPELINE_STAGES]
    if not requested:
        return
    vae, model = _start(work, recipe, tokenizer, earlier, max(requested))
    if max(requested) == PIPELINE_STAGES.index("denoiser"):
        model = denoiser.train(work, vae, model, tokenizer, recipe.device, recipe.denoiser, recipe.log_folder).cpu()
        pipeline.write(pipeline.assemble(vae.cpu(), model.text_encoder, model.unet, tokenizer), target / "toybox")


def _start(
    work: Path, recipe: BaseRecipe, tokenizer: CLIPTokenizer, earlier: StableDiffusionPipeline | None, last: int
) -> tuple[AutoencoderKL, Denoiser]:
    """The denoiser's initial models: of an earlier base, or by the PIPELINE_STAGES up to the index `last`."""
    if earlier:
        return earlier.vae, Denoiser(earlier.text_encoder, earlier.unet)
    vae = autoencoder.train(work, recipe.device, recipe.autoencoder_steps, recipe.log_folder)
    encoder = text_encoder.build(tokenizer)
    if last > 0:
        encoder = text_encoder.train(work, tokenizer, recipe.device, recipe.text_encoder_steps, recipe.log_folder)
    torch.manual_seed(0)
    return vae, Denoiser(encoder, build_unet(recipe.denoiser.attention, encoder.config.hidden_size))
