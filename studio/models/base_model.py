"""A base model: encodes prompts and pictures, predicts noise, and generates."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor, nn

from studio.layers.svd_basis import Decomposition
from studio.layers.target_modules import Site, find_sites
from studio.layers.timesteps import record_timesteps
from studio.models.families import Family, family_of
from studio.models.img2img.init_image import InitImage, placed
from studio.models.layerwise_context import attention_blocks, read_own_parts
from studio.models.loading import default_target_modules, open_pipeline
from studio.models.prompt_encoding import PromptEmbeds, encode, matched, token_ids
from studio.models.prompt_weights import PromptSyntax
from studio.models.regions.layout import OnRegions, layout_for
from studio.models.regions.region import AnyRegion
from studio.models.regions.sampling import denoise_in_regions
from studio.models.sampling import denoise
from studio.models.sampling_settings import SamplingSettings, check_seeds


class Base:
    """A frozen Stable-Diffusion-like base model: its parts, the sites to adapt, their singular columns.

    `cache` is the folder in which the columns are cached; `default_target_modules` are the kinds of layers (keys of
    studio.layers.target_modules.KINDS) that its concepts adapt by default. `attention_blocks` are the names of the
    UNet's blocks with cross-attention, each of which may have its own vectors of a token.
    """

    def __init__(
        self,
        name: str,
        pipeline: Any,
        cache: Path | None = None,
        default_target_modules: tuple[str, ...] = ("attention",),
    ):
        self.name = name
        self.default_target_modules = default_target_modules
        self.pipeline = pipeline
        self.device = pipeline.device
        self._cache = cache
        self._sites: dict[tuple[str, ...], dict[str, Site]] = {}
        pipeline.set_progress_bar_config(disable=True)
        for part in (*self.parts.values(), pipeline.vae):
            part.requires_grad_(False).eval()
        self.attention_blocks = attention_blocks(pipeline.unet)
        read_own_parts(pipeline.unet)
        record_timesteps(pipeline.unet, pipeline.scheduler.config.num_train_timesteps)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The parts that can be adapted, by name."""
        return {"unet": self.pipeline.unet, **{part: encoder for part, (_, encoder) in self.text_encoders.items()}}

    @property
    def text_encoders(self) -> dict[str, tuple[Any, Any]]:
        """Each tokenizer with its text encoder, by the text encoder's name."""
        first = {"text_encoder": (self.pipeline.tokenizer, self.pipeline.text_encoder)}
        if not isinstance(self.pipeline, StableDiffusionXLPipeline):
            return first
        return {**first, "text_encoder_2": (self.pipeline.tokenizer_2, self.pipeline.text_encoder_2)}

    @cached_property
    def sites(self) -> dict[str, Site]:
        """The attention projections of UNet and text encoder: the default sites, and those of the fingerprint."""
        return self.sites_of(("attention",))

    def sites_of(self, kinds: tuple[str, ...]) -> dict[str, Site]:
        """The layers of these kinds (keys of studio.layers.target_modules.KINDS), by name."""
        if kinds not in self._sites:
            self._sites[kinds] = find_sites(self.parts, kinds)
        return self._sites[kinds]

    @cached_property
    def decomposition(self) -> Decomposition:
        """The singular columns of the sites, with the base's fingerprint."""
        return Decomposition.of(self.sites, self._cache)

    @property
    def side(self) -> int:
        """The side of the pictures that the base was trained on, in pixels."""
        return int(self.pipeline.unet.config.sample_size) * self.pipeline.vae_scale_factor

    @property
    def size_step(self) -> int:
        """Width and height must be multiples of this: each level of the UNet halves the latents. diffusers' pipelines
        also refuse sides that are no multiples of 8.
        """
        return max(8, self.pipeline.vae_scale_factor * 2 ** (len(self.pipeline.unet.config.block_out_channels) - 1))

    @property
    def family(self) -> Family:
        """The family of Stable Diffusion that it belongs to."""
        return family_of(self.parts)

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 autocast where the device supports it natively, float32 elsewhere."""
        return autocast(self.device)

    def token_ids(self, prompts: Sequence[str], syntax: PromptSyntax = "plain") -> Tensor:
        """Prompts as padded token ids (n, tokens), in as many windows of the tokenizer's length as the longest one
        needs.
        """
        return token_ids(self.text_encoders["text_encoder"], prompts, syntax=syntax)

    def encode(self, prompts: Sequence[str], syntax: PromptSyntax = "plain") -> PromptEmbeds:
        """The prompt embeddings; `syntax` says how weights and BREAK are read."""
        return encode(self.text_encoders, prompts, syntax)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """The prompt embeddings for cross-attention, (n, tokens, d) or by layer (n, tokens, layers × d)."""
        return self.encode(prompts).context

    def encode_negative_prompts(self, prompts: Sequence[str], syntax: PromptSyntax = "plain") -> PromptEmbeds:
        """The negative prompt embeddings; zeros for empty prompts where the pipeline's configuration has them."""
        zeros = not any(prompts) and self.pipeline.config.get("force_zeros_for_empty_prompt", False)
        if zeros:
            return self.encode(prompts).zeros()
        return encode(self.text_encoders, prompts, syntax, "The negative prompt")

    def predict(self, noisy: Tensor, timesteps: Tensor, prompts: PromptEmbeds) -> Tensor:
        """The UNet's prediction for noisy latents (n, channels, h, w) at timesteps (n,): noise or velocity, by its
        training.

        SDXL's size conditioning is that of pictures that were neither scaled nor cropped.
        """
        added = self._added(prompts, noisy)
        return self.pipeline.unet(noisy, timesteps, prompts.context, added_cond_kwargs=added, return_dict=False)[0]

    def _added(self, prompts: PromptEmbeds, noisy: Tensor) -> dict[str, Tensor] | None:
        if prompts.pooled is None:
            return None
        height, width = (size * self.pipeline.vae_scale_factor for size in noisy.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=noisy.device)
        return {"text_embeds": prompts.pooled, "time_ids": sizes.repeat(len(noisy), 1).to(prompts.pooled.dtype)}

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures of one size as scaled latents (n, channels, height / 8, width / 8), float32."""
        levels = torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures])
        signal = levels.permute(0, 3, 1, 2).to(self.device, torch.float32) / 127.5 - 1
        vae = self.pipeline.vae
        return vae.encode(signal.to(vae.dtype)).latent_dist.mode().float() * vae.config.scaling_factor


@cache
def _processor_features() -> set[str]:
    return {name for name, present in torch.cpu.get_capabilities().items() if present is True}


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 autocast where the device supports it natively, else no autocast."""
    if device.type == "cpu" and not {"avx512_bf16", "amx_bf16"} & _processor_features():
        return nullcontext()  # elsewhere bfloat16 is emulated, which is slower than float32
    return torch.autocast(device.type, torch.bfloat16)


def load_base(source: str, cache: Path | None = None, device: str | None = None) -> Base:
    """The bundled base for "toybox", else a diffusers folder, a .safetensors checkpoint or a model of the hub, on the
    GPU when there is one.

    Raises StudioError when nothing can be loaded from there.
    """
    pipeline = open_pipeline(source, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    pipeline.unet.to(memory_format=torch.channels_last)  # convolutions are several times faster in this layout
    return Base(source, pipeline, cache, default_target_modules(source))


@torch.inference_mode()
def generate(
    base: Base,
    prompt: str,
    seeds: Sequence[int],
    settings: SamplingSettings | None = None,
    regions: Sequence[AnyRegion] = (),
    on_step: Callable[[], None] = lambda: None,
    on_regions: OnRegions = lambda _seed, _masks: None,
    init_image: InitImage | None = None,
) -> list[Image.Image]:
    """One picture for each seed; a picture depends on its own seed, not on the others.

    Inside each region its own prompt applies instead of `prompt`. `on_step` is called after every denoising step of
    every batch, and `on_regions` for each picture with regions. With a start image the pictures begin from it, and
    where `settings` have no size, from its own.
    """
    settings, init_image = placed(init_image, (settings or SamplingSettings()).with_defaults(base.family), base)
    check_seeds(seeds)
    with base.autocast():
        # The context of cross-attention: the prompt's tokens, then each region's.
        rows = base.encode([prompt, *(region.prompt for region in regions)], settings.prompt_syntax)
        negative = base.encode_negative_prompts([settings.negative_prompt], settings.prompt_syntax)
        wanted, unwanted = matched(rows, 1 + len(regions), negative)
        pictures: list[Image.Image] = []
        for batch in _batches(seeds, settings.batch_size):
            embeds = wanted.repeated(len(batch)), unwanted.repeated(len(batch))
            layout = layout_for(base, [prompt] * len(batch), regions, settings, init_image)
            pictures += denoise_in_regions(
                base, layout, embeds, batch, settings, "pil", on_step, init_image, on_regions=on_regions
            )
        return pictures


def generate_images(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: SamplingSettings | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> list[Image.Image]:
    """One picture for each prompt and its seed. `on_step` is called after every denoising step of every batch."""
    batches = _sample_each(base, prompts, seeds, settings or SamplingSettings(), "pil", on_step)
    return [picture for batch in batches for picture in batch]


def generate_latents(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: SamplingSettings | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """One picture for each prompt and its seed, left as scaled latents (n, channels, h, w), float32."""
    batches = _sample_each(base, prompts, seeds, settings or SamplingSettings(), "latent", on_step)
    return torch.cat([batch.float() for batch in batches])


@torch.no_grad()
def _sample_each(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: SamplingSettings,
    output: str,
    on_step: Callable[[], None],
) -> list[Any]:
    check_seeds(seeds)
    settings = settings.with_defaults(base.family)
    with base.autocast():
        unwanted = base.encode_negative_prompts([settings.negative_prompt], settings.prompt_syntax)
        made = []
        for texts, batch in zip(
            _batches(prompts, settings.batch_size), _batches(seeds, settings.batch_size), strict=True
        ):
            wanted, others = matched(base.encode(texts, settings.prompt_syntax), 1, unwanted)
            made.append(denoise(base, wanted, others.repeated(len(batch)), batch, settings, output, on_step))
        return made


def _batches(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
