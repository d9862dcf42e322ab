"""Makes toybox and its scorer from nothing, stage by stage, and writes them as ordinary model folders."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import CLIPTokenizer

from training.toybox.evaluation import identity_laws
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
OF_THE_PIPELINE = STAGES[:3]
"""Each of them needs the ones before."""


@dataclass(frozen=True)
class BaseRecipe:
    """How long each stage trains, in steps, on which device, and the folder of its training_log, if it keeps one."""

    autoencoder_steps: int = autoencoder.STEPS
    text_encoder_steps: int = text_encoder.STEPS
    denoiser: DenoiserRecipe = field(default_factory=DenoiserRecipe)
    scorer_steps: int = scorer.STEPS
    detector_steps: int = detector_training.STEPS
    identity_steps: int = identity.STEPS
    device: str = "cpu"
    log_folder: Path | None = None


def train_base(work: Path, target: Path, recipe: BaseRecipe, stages: tuple[str, ...], start: Path | None) -> None:
    """Runs the stages that are asked for, each from where it was left in `work`, and writes results to `target`.

    `target` gets the folders `toybox` (a diffusers pipeline, with the denoiser) and `toybox-clip` (an open_clip model),
    and the detector's weights go to `detector.WEIGHTS`. Stages that the denoiser needs are run before it; finished ones
    only load. With `start`, a folder of an earlier toybox, its models are where the denoiser begins.
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
        identity_laws.calibrate(target / scorer.NAME)
    asked = [OF_THE_PIPELINE.index(stage) for stage in stages if stage in OF_THE_PIPELINE]
    if not asked:
        return
    vae, model = _start(work, recipe, tokenizer, earlier, max(asked))
    if max(asked) == OF_THE_PIPELINE.index("denoiser"):
        model = denoiser.train(work, vae, model, tokenizer, recipe.device, recipe.denoiser, recipe.log_folder).cpu()
        pipeline.write(pipeline.assemble(vae.cpu(), model.text_encoder, model.unet, tokenizer), target / "toybox")


def _start(
    work: Path, recipe: BaseRecipe, tokenizer: CLIPTokenizer, earlier: StableDiffusionPipeline | None, last: int
) -> tuple[AutoencoderKL, Denoiser]:
    """What the denoiser needs: of an earlier base, or by the stages up to the number `last` in `OF_THE_PIPELINE`."""
    if earlier:
        return earlier.vae, Denoiser(earlier.text_encoder, earlier.unet)
    vae = autoencoder.train(work, recipe.device, recipe.autoencoder_steps, recipe.log_folder)
    reader = text_encoder.build(tokenizer)
    if last > 0:
        reader = text_encoder.train(work, tokenizer, recipe.device, recipe.text_encoder_steps, recipe.log_folder)
    torch.manual_seed(0)
    return vae, Denoiser(reader, build_unet(recipe.denoiser.attention, reader.config.hidden_size))
