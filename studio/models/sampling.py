"""diffusers' own sampling of encoded prompts, by any of its schedulers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import diffusers
import torch

from concepts.errors import StudioError
from studio.models.img2img.init_image import InitImage
from studio.models.img2img.init_latents import Encoding, Start, started
from studio.models.prompt_encoding import PromptEmbeds
from studio.models.sampling_settings import SamplingSettings, Sized
from studio.models.scheduler_names import SCHEDULERS


class Sampled(Sized, Encoding, Protocol):
    """A base, as far as sampling asks for it."""


def denoise(
    base: Sampled,
    prompt_embeds: PromptEmbeds,
    negative_prompt_embeds: PromptEmbeds,
    seeds: Sequence[int],
    settings: SamplingSettings,
    output: str,
    on_step: Callable[[], None],
    init_image: InitImage | None = None,
) -> Any:
    """Runs diffusers' own sampling on n encoded prompts: n images, or for the output "latent" their latents
    (n, channels, h, w). A start image has the size of the settings.

    `on_step` is called after each denoising step that runs: `settings.num_inference_steps` times, or as
    `InitImage.steps` says, also where the scheduler runs the model more often.
    Raises StudioError for images that are NaN, which would be black.
    """
    prompt, negative = prompt_embeds, negative_prompt_embeds
    (width, height), steps = settings.pixels(base), settings.num_inference_steps
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    pooled = {"pooled_prompt_embeds": prompt.pooled, "negative_pooled_prompt_embeds": negative.pooled}
    with (
        scheduler_applied(base.pipeline, settings.scheduler),
        started(base, init_image, steps, generators, prompt.context.dtype) as start,
    ):
        sampled = base.pipeline(
            prompt_embeds=prompt.context,
            negative_prompt_embeds=negative.context,
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=settings.guidance_scale,
            guidance_rescale=settings.guidance_rescale,
            generator=generators,
            latents=start.latents,
            callback_on_step_end=_after_call(start, on_step),
            output_type="np" if output == "pil" else output,
            **({} if prompt.pooled is None else pooled),
        ).images
    check_images(sampled, seeds)
    if output != "pil":
        return sampled
    pictures = base.pipeline.numpy_to_pil(sampled)
    return [init_image.overlaid(picture) for picture in pictures] if init_image else pictures


def _after_call(start: Start, on_step: Callable[[], None]) -> Callable[..., dict[str, Any]]:
    """What diffusers calls after every call of the model."""

    def after_call(pipeline: Any, call: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if _ends_step(pipeline.scheduler, call, start.steps):
            on_step()
        return {"latents": start.after_call(values["latents"], call)}

    return after_call


def check_images(images: Any, seeds: Sequence[int]) -> None:
    """Raises StudioError if images or latents, (n, …) with one seed each, have values that are NaN or infinite."""
    finite = torch.as_tensor(images).isfinite().flatten(1).all(1).tolist()
    if not all(finite):
        raise StudioError(
            f"The image of seed {seeds[finite.index(False)]} is NaN, so it was not saved. Lower the guidance scale and "
            "the concepts' strengths, or choose another scheduler; if it stays, use a checkpoint and an autoencoder "
            "(VAE) in float32."
        )


@contextmanager
def scheduler_applied(pipeline: Any, name: str | None) -> Iterator[None]:
    """While open, the pipeline samples by the scheduler of this name, a key of SCHEDULERS, set up as the base's own.

    Raises StudioError for Karras' noise levels on a base with zero terminal SNR, whose highest level is unbounded.
    """
    own = pipeline.scheduler
    if name is not None:
        kind, options = SCHEDULERS[name]
        if options.get("use_karras_sigmas") and own.config.get("rescale_betas_zero_snr"):
            plain = name.removesuffix(" karras")
            raise StudioError(
                f"The scheduler {name} does not work with zero terminal SNR, which this base has. Choose {plain}."
            )
        pipeline.scheduler = getattr(diffusers, kind).from_config(own.config, **options)
    try:
        yield
    finally:
        pipeline.scheduler = own


def _ends_step(scheduler: Any, index: int, steps: int) -> bool:
    """Whether a step is over after this call of the model, by the rule of diffusers' progress bar: a scheduler of
    order 2 calls it twice a step, and some call it more often at first.
    """
    calls = len(scheduler.timesteps)
    warmup = calls - steps * scheduler.order
    return index == calls - 1 or (index + 1 > warmup and (index + 1) % scheduler.order == 0)
