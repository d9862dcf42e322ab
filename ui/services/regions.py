"""The regions of a request, and the masks that its images keep."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from concepts import read_picture
from concepts.errors import StudioError
from studio.models.generation_request import AUTO, Box, GenerationRequest
from studio.models.regions.region import AnyRegion, AutoRegion, MaskRegion, Region
from studio.models.token_embeddings import token_of
from ui.services.named_concepts import alone, names_written

OnMasks = Callable[[int, Mapping[str, Image.Image]], None]
"""From an image's seed and a mask, in grey, for each concept with a region."""


def regions_of(request: GenerationRequest, size: tuple[int, int], located: bool = False) -> dict[str, AnyRegion]:
    """The region of each concept that has one, for images of this width and height, with the part of the prompt that
    is the concept's own. With `located`, and without regions, the concepts that the prompt
    names are located, but not confined.

    Raises LibraryError for a mask that is no picture, and StudioError for a box or a mask that is none.
    """
    places = dict(request.regions)
    if request.auto_regions:
        given = {name.lower() for name in places}
        places |= {name: AUTO for name in names_written(request.prompt) if name.lower() not in given}
    found = {name: _region(alone(request.prompt, name), name, place, size) for name, place in places.items()}
    if located and not found:
        names = names_written(request.prompt)
        return {name: AutoRegion(alone(request.prompt, name), (token_of(name),), applied=False) for name in names}
    return found


def _region(prompt: str, name: str, place: Box | str, size: tuple[int, int]) -> AnyRegion:
    if place == AUTO:
        return AutoRegion(prompt, (token_of(name),))
    if not isinstance(place, str):
        return Region(prompt, *_as_fractions(place, size))
    if not Path(place).is_file():
        raise StudioError(f"The mask {place} of {name} does not exist. Give its file, a box, or auto.")
    grey = read_picture(Path(place), Path(place).name).convert("L")
    return MaskRegion(prompt, torch.from_numpy(np.asarray(grey, np.float32) / 255))


def _as_fractions(box: Box, size: tuple[int, int]) -> Box:
    """A box as fractions of an image of this width and height; it is in pixels if one of its numbers is above 1."""
    width, height = size if max(box) > 1 else (1, 1)
    top, left, bottom, right = box
    return top / height, left / width, bottom / height, right / width


def as_pictures(regions: Mapping[str, AnyRegion], on_masks: OnMasks) -> Callable[[int, Tensor], None]:
    """What takes an image's seed and masks (regions, height, width) from 0 to 1, in the order of these regions, and
    tells those that are no boxes.
    """

    def tell(seed: int, masks: Tensor) -> None:
        levels = (masks * 255).round().byte().numpy()
        told = zip(regions.items(), levels, strict=True)
        on_masks(seed, {name: Image.fromarray(own) for (name, region), own in told if not isinstance(region, Region)})

    return tell
