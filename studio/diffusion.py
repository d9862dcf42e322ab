"""A base model, and what is done with it: encode words and pictures, paint."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from studio.bundled import TOYBOX
from studio.decomposition import Decomposition
from studio.errors import StudioError
from studio.regions import Region, in_regions
from studio.sites import Site, find_sites
from studio.tokens import expand_tokens

MOST_GUIDANCE = 100
SEEDS = range(2**64)
"""The seeds that torch takes."""


@dataclass(frozen=True)
class PaintSettings:
    """How a picture is painted."""

    steps: int = 20
    """Denoising steps; 1 to 1000."""
    guidance: float = 4.0
    """Classifier-free guidance (Ho and Salimans, 2022): 1 follows the prompt loosely, 10 slavishly; 0 to 100."""
    guidance_rescale: float = 0.5
    """Holds back the contrast that guidance adds (Lin et al., 2023, section 3.4); 0 to 1."""
    negative_prompt: str = ""
    """What the picture should not show."""
    batch: int = 4
    """Pictures painted at once."""

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise StudioError(f"Choose 1 to 1000 steps: {self.steps} is outside that range.")
        if not 0 <= self.guidance <= MOST_GUIDANCE:
            raise StudioError(f"Choose a guidance from 0 to {MOST_GUIDANCE}: {self.guidance} is outside that range.")
        if not 0 <= self.guidance_rescale <= 1:
            raise StudioError(f"Choose a guidance rescale from 0 to 1: {self.guidance_rescale} is outside that range.")
        if self.batch < 1:
            raise StudioError(f"Choose a batch of at least 1: {self.batch} is too small.")


class Base:
    """A Stable-Diffusion-like base model, frozen and ready: its parts, the sites to adapt, their singular columns.

    `cache` is where the columns are kept between runs.
    """

    def __init__(self, name: str, pipeline: StableDiffusionPipeline, cache: Path | None = None):
        self.name = name
        self.pipeline = pipeline
        self.device = pipeline.device
        self._cache = cache
        self._sites: dict[tuple[str, ...], dict[str, Site]] = {}
        pipeline.set_progress_bar_config(disable=True)
        for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
            part.requires_grad_(False).eval()

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The parts that can be adapted, by name."""
        return {"unet": self.pipeline.unet, "text_encoder": self.pipeline.text_encoder}

    @property
    def readers(self) -> dict[str, tuple[Any, Any]]:
        """The tokenizer and the text encoder of each part that reads prompts, by the part's name."""
        return {"text_encoder": (self.pipeline.tokenizer, self.pipeline.text_encoder)}

    @cached_property
    def sites(self) -> dict[str, Site]:
        """The attention projections of UNet and text encoder: what most methods adapt, and what names the base."""
        return self.sites_of(("attention",))

    def sites_of(self, kinds: tuple[str, ...]) -> dict[str, Site]:
        """The layers of these kinds (keys of studio.sites.KINDS), by name."""
        if kinds not in self._sites:
            self._sites[kinds] = find_sites(self.parts, kinds)
        return self._sites[kinds]

    @cached_property
    def decomposition(self) -> Decomposition:
        """The singular columns of the sites, with the fingerprint that concepts carry."""
        return Decomposition.of(self.sites, self._cache)

    @property
    def side(self) -> int:
        """The side of the pictures that the base was trained on, in pixels."""
        return int(self.pipeline.unet.config.sample_size) * self.pipeline.vae_scale_factor

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 where the machine computes with it natively, float32 elsewhere."""
        return autocast(self.device)

    def token_ids(self, prompts: Sequence[str]) -> Tensor:
        """Prompts as padded token ids (n, tokens); what is beyond the tokenizer's length is cut off."""
        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        texts = [expand_tokens(encoder, prompt) for prompt in prompts]
        return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(self.device)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Prompts as the text encoder's last hidden states (n, tokens, d)."""
        return self.pipeline.text_encoder(self.token_ids(prompts)).last_hidden_state

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures of the base's side as scaled latents (n, channels, side / 8, side / 8), float32."""
        levels = torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures])
        signal = levels.permute(0, 3, 1, 2).to(self.device, torch.float32) / 127.5 - 1
        vae = self.pipeline.vae
        return vae.encode(signal.to(vae.dtype)).latent_dist.mode().float() * vae.config.scaling_factor


@cache
def _processor_features() -> set[str]:
    return {name for name, present in torch.cpu.get_capabilities().items() if present is True}


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 autocast where the device computes with it natively, else nothing."""
    if device.type == "cpu" and not {"avx512_bf16", "amx_bf16"} & _processor_features():
        return nullcontext()  # elsewhere bfloat16 is emulated, which is slower than float32
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keeps the libraries' own progress bars off stderr; afterwards they are as they were."""
    shown = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def load_base(source: str, cache: Path | None = None, device: str | None = None) -> Base:
    """The bundled base for "toybox", else a diffusers folder or a model of the hub, on the GPU when there is one.

    Raises StudioError when nothing can be loaded from there.
    """
    place = str(TOYBOX) if source == "toybox" else source
    try:
        with _without_bars():
            pipeline = StableDiffusionPipeline.from_pretrained(
                place, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
            )
    except (OSError, ValueError) as error:
        raise StudioError(
            f"Give --base toybox, a diffusers folder or a hub model: nothing could be loaded from {source!r}."
        ) from error
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    pipeline.to(chosen)
    pipeline.unet.to(memory_format=torch.channels_last)  # convolutions are several times faster so
    return Base(source, pipeline, cache)


@torch.inference_mode()
def paint(
    base: Base,
    prompt: str,
    seeds: Sequence[int],
    settings: PaintSettings | None = None,
    regions: Sequence[Region] = (),
    on_step: Callable[[], None] = lambda: None,
) -> list[Image.Image]:
    """One picture for each seed; a picture depends on its own seed, not on the others.

    Inside its box each region's own prompt is read instead of `prompt`. `on_step` is called after every denoising
    step of every batch.
    """
    settings = settings or PaintSettings()
    check_seeds(seeds)
    with base.autocast(), in_regions(base.pipeline.unet, regions):
        # What cross-attention reads: the prompt's tokens, then each region's.
        wanted = base.encode_prompts([prompt, *(region.prompt for region in regions)]).flatten(0, 1)[None]
        pictures: list[Image.Image] = []
        for batch in _batches(seeds, settings.batch):
            pictures += _denoise(base, wanted.repeat(len(batch), 1, 1), batch, settings, "pil", on_step)
        return pictures


def paint_prompts(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: PaintSettings | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> list[Image.Image]:
    """One picture for each prompt and its seed. `on_step` is called after every denoising step of every batch."""
    batches = _paint_each(base, prompts, seeds, settings or PaintSettings(), "pil", on_step)
    return [picture for batch in batches for picture in batch]


def paint_latents(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: PaintSettings | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """One picture for each prompt and its seed, left as scaled latents (n, channels, h, w), float32."""
    batches = _paint_each(base, prompts, seeds, settings or PaintSettings(), "latent", on_step)
    return torch.cat([batch.float() for batch in batches])


@torch.no_grad()
def _paint_each(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: PaintSettings,
    output: str,
    on_step: Callable[[], None],
) -> list[Any]:
    check_seeds(seeds)
    with base.autocast():
        return [
            _denoise(base, base.encode_prompts(texts), batch, settings, output, on_step)
            for texts, batch in zip(_batches(prompts, settings.batch), _batches(seeds, settings.batch), strict=True)
        ]


def _batches(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise StudioError unless every seed is one."""
    if wrong := next((seed for seed in seeds if seed not in SEEDS), None):
        raise StudioError(f"Choose seeds from 0 to 2^64 - 1: {wrong} is outside that range.")


def _denoise(
    base: Base,
    wanted: Tensor,
    seeds: Sequence[int],
    settings: PaintSettings,
    output: str,
    on_step: Callable[[], None],
) -> Any:
    unwanted = base.encode_prompts([settings.negative_prompt])
    repeated = unwanted.repeat(len(seeds), wanted.shape[1] // unwanted.shape[1], 1)
    return denoise(base, wanted, repeated, seeds, settings, output, on_step)


def denoise(
    base: Base,
    wanted: Tensor,
    unwanted: Tensor,
    seeds: Sequence[int],
    settings: PaintSettings,
    output: str,
    on_step: Callable[[], None],
) -> Any:
    """Runs diffusers' own sampling on contexts (n, tokens, d), wanted and not: n pictures, or for the output "latent"
    their latents (n, channels, h, w).
    """

    def after_step(_pipeline: Any, _step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        on_step()
        return values

    return base.pipeline(
        prompt_embeds=wanted,
        negative_prompt_embeds=unwanted,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        guidance_rescale=settings.guidance_rescale,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        callback_on_step_end=after_step,  # pyright: ignore[reportArgumentType]
        output_type=output,
    ).images  # pyright: ignore[reportAttributeAccessIssue]
