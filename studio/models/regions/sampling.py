"""Samples a batch of images whose regions are given or found on the way."""

from collections.abc import Callable, Sequence
from typing import Any

from studio.models.img2img.init_image import InitImage
from studio.models.prompt_encoding import PromptEmbeds
from studio.models.regions.attention import in_regions
from studio.models.regions.layout import OnRegions, RegionLayout
from studio.models.sampling import denoise
from studio.models.sampling_settings import SamplingSettings


def denoise_in_regions(
    base: Any,
    layout: RegionLayout,
    embeds: tuple[PromptEmbeds, PromptEmbeds],
    seeds: Sequence[int],
    settings: SamplingSettings,
    output: str,
    on_step: Callable[[], None],
    init_image: InitImage | None = None,
    on_regions: OnRegions = lambda _seed, _masks: None,
    on_found: Callable[[], None] = lambda: None,
) -> Any:
    """What `denoise` returns for prompts and negative prompts, `embeds`, whose images have the regions of `layout`.

    `on_found` is called when regions have been found, and `on_regions` at the end for each image with regions.
    """

    def after_step() -> None:
        if layout.end_step():
            on_found()
        on_step()

    with in_regions(base.pipeline.unet, layout):
        images = denoise(base, *embeds, seeds, settings, output, after_step, init_image)
    layout.tell(seeds, settings.pixels(base), on_regions)
    return images
