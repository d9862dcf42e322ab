"""The start image of a request, and its mask, read from their files."""

from pathlib import Path

from PIL import Image

from concepts import read_picture
from studio.models.generation_request import GenerationRequest
from studio.models.img2img.denoising_strength import MASK_BLUR
from studio.models.img2img.init_image import InitImage


def init_image_of(request: GenerationRequest) -> InitImage | None:
    """The start image that a request names, upright and in RGB; transparent parts of a mask are white.

    Raises LibraryError for a file that there is not or that is no picture, and StudioError as InitImage does.
    """
    if request.image is None:
        return None
    mask = None if request.mask is None else _read(request.mask)
    blur = MASK_BLUR if request.mask_blur is None else request.mask_blur
    return InitImage(_read(request.image), mask, request.denoising_strength, blur)


def _read(file: str) -> Image.Image:
    return read_picture(Path(file), Path(file).name)
