"""Where the regions of a batch of images lie, at each resolution of attention, while the batch is sampled."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.models.img2img.init_image import InitImage
from studio.models.prompt_encoding import positions_of, token_ids
from studio.models.regions.masks import disjoint_masks
from studio.models.regions.region import AnyRegion, AutoRegion, grid, resized
from studio.models.sampling_settings import SamplingSettings

GATHERED = 0.25
"""The fraction of the denoising steps, the first ones, whose attention maps find regions."""
FINEST = 32
"""The longest shorter side of an attention grid whose maps are read: finer ones show no objects."""
OnRegions = Callable[[int, Tensor], None]
"""From an image's seed and its regions' masks, (regions, height, width) from 0 to 1."""


class RegionLayout:
    """The regions of a batch of n images, each a box, a mask, or one that is found in the first steps.

    `named` (n, auto regions, tokens) is 1 at the tokens of each auto region's concept in the images' prompts, `steps`
    the number of denoising steps, and `coarsest` the shorter side of the coarsest attention grid whose maps are read.
    Until the regions are found, whole images read their prompts. Boxes and masks override found regions.
    """

    def __init__(
        self,
        regions: Sequence[AnyRegion],
        aspect: float = 1.0,
        named: Tensor | None = None,
        steps: int = 0,
        coarsest: int = 8,
    ) -> None:
        self.regions, self.aspect = tuple(regions), aspect
        self._auto = [index for index, region in enumerate(self.regions) if isinstance(region, AutoRegion)]
        self._named, self._coarsest = named, coarsest
        self._applied = all(region.applied for region in self.regions if isinstance(region, AutoRegion))
        self._left = max(1, round((GATHERED if self._applied else 1) * steps)) if self._auto else 0
        self._maps: Tensor | None = None
        self._found: Tensor | None = None
        self._inside: dict[int, Tensor] = {}

    @property
    def count(self) -> int:
        """The number of images whose regions are to be found."""
        return 0 if self._named is None else len(self._named)

    @property
    def gathering(self) -> bool:
        """Whether regions are still to be found."""
        return self._left > 0

    def confines(self, index: int) -> bool:
        """Whether a concept acts inside the region of this index alone, at present."""
        return not isinstance(self.regions[index], AutoRegion) or (self._applied and not self.gathering)

    def inside(self, positions: int) -> Tensor:
        """How far each region covers each position, (regions, n, positions), or n = 1 where all images agree; 0 for
        regions that confine nothing.
        """
        if positions not in self._inside:
            rows, columns = grid(positions, self.aspect)
            covered = self._covered(rows, columns).flatten(2)
            confining = torch.tensor([self.confines(index) for index in range(len(self.regions))])
            self._inside[positions] = covered * confining[:, None, None]
        return self._inside[positions]

    def reading(self, positions: int) -> Tensor:
        """How far each position reads each prompt, (1 + regions, n, positions): the whole image's first, where no
        region is.
        """
        inside = self.inside(positions)
        return torch.cat([(1 - inside.sum(0, keepdim=True)).clamp(min=0), inside])

    def read_outside(self, tokens: int) -> Tensor:
        """How far positions outside all regions read each of an image's prompt's tokens, (n or 1, tokens): the names of
        concepts that have found regions are not read there, since each would show its concept once more.
        """
        if self._named is None or not self._applied or self.gathering:
            return torch.ones(1, tokens)
        return 1 - self._named.amax(1).repeat(1, tokens // self._named.shape[-1])

    def reads_maps(self, positions: int) -> bool:
        """Whether the attention maps of a layer with so many positions are wanted now."""
        return self.gathering and self._coarsest <= min(grid(positions, self.aspect)) <= FINEST

    def add(self, attention: Tensor) -> None:
        """Adds a layer's attention (n, positions, tokens) to the tokens of the images' prompts."""
        assert self._named is not None
        named = self._named.to(attention)
        named = named.repeat(1, 1, attention.shape[-1] // named.shape[-1])
        maps = torch.einsum("npt,nct->ncp", attention, named).float().cpu()
        maps = maps.unflatten(-1, grid(maps.shape[-1], self.aspect))
        if self._maps is None:
            self._maps = maps
            return
        size = max(self._maps.shape[-2:], maps.shape[-2:])
        self._maps = resized(self._maps, *size) + resized(maps, *size)

    def end_step(self) -> bool:
        """To be called after every denoising step; whether the regions were found in it."""
        if not self.gathering:
            return False
        self._left -= 1
        if self._left:
            return False
        assert self._maps is not None, "the finest cross-attention is never too coarse"
        with torch.autocast("cpu", enabled=False):
            self._found, self._maps = disjoint_masks(self._maps), None
        self._inside.clear()
        return True

    def tell(self, seeds: Sequence[int], size: tuple[int, int], on_regions: OnRegions) -> None:
        """Calls `on_regions` for each image of this width and height with its seed and its regions' masks."""
        if self.regions:
            masks = self._covered(size[1], size[0]).transpose(0, 1)
            for seed, own in zip(seeds, masks.expand(len(seeds), -1, -1, -1), strict=True):
                on_regions(seed, own)

    def _covered(self, rows: int, columns: int) -> Tensor:
        given = {i: r.coverage(rows, columns) for i, r in enumerate(self.regions) if not isinstance(r, AutoRegion)}
        count = 1 if self._found is None else len(self._found)
        covered = torch.zeros(len(self.regions), count, rows, columns)
        for index, own in given.items():
            covered[index] = own
        if self._found is not None:
            free = (1 - covered.sum(0)).clamp(0, 1)
            covered[self._auto] = resized(self._found, rows, columns).transpose(0, 1) * free
        return covered


def layout_for(
    base: Any,
    prompts: Sequence[str],
    regions: Sequence[AnyRegion],
    settings: SamplingSettings,
    init_image: InitImage | None = None,
) -> RegionLayout:
    """The layout of a batch with one prompt for each image, on this base; a start image has fewer denoising steps.

    Raises StudioError where a prompt does not name a concept whose region is to be found.
    """
    auto = [region for region in regions if isinstance(region, AutoRegion)]
    if not auto:
        return RegionLayout(regions, settings.aspect(base))
    encoder = base.text_encoders["text_encoder"]
    # With the regions' prompts, as they are encoded: then all have the same number of windows
    together = [*prompts, *(region.prompt for region in regions)]
    ids = token_ids(encoder, together, 0, settings.prompt_syntax)[: len(prompts)]
    named = torch.stack([positions_of(encoder, ids, region.tokens) for region in auto], 1)
    if not named.any(-1).all():
        missing = next(region for region, own in zip(auto, named.any(-1).all(0), strict=True) if not own)
        raise StudioError(
            f"The prompt does not name {missing.tokens[0]}, so its region cannot be found. Name it in the prompt, or "
            "give it a box."
        )
    latents = min(settings.pixels(base)) // base.pipeline.vae_scale_factor
    coarsest = max(latents // 4, min(8, latents // 2))
    steps = settings.num_inference_steps
    steps = init_image.steps(steps) if init_image else steps
    return RegionLayout(regions, settings.aspect(base), named.float().cpu(), steps, coarsest)
