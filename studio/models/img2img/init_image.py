"""The start image of a generation ("init image" in A1111), its inpainting mask, and their size."""

from dataclasses import dataclass, replace
from itertools import product
from math import log, sqrt
from typing import TypeVar

from PIL import Image, ImageFilter, ImageOps

from concepts.errors import StudioError
from studio.models.img2img.denoising_strength import MASK_BLUR, denoising_steps, strength_or_default
from studio.models.sampling_settings import MAX_SIDE, SamplingSettings, Sized

Settings = TypeVar("Settings", bound=SamplingSettings)
_WHITE = [0] * 128 + [255] * 128


@dataclass(frozen=True, eq=False)
class InitImage:
    """An upright RGB picture from which sampling begins, and perhaps a mask: white is repainted, black is kept.

    `denoising_strength`, 0 < s <= 1, is the share of the denoising steps that run; if unset, 0.75, or 1 with a mask. At
    1 sampling begins from noise alone. `mask_blur` is the standard deviation, in pixels of the generated image, of the
    Gaussian that blurs the mask's edge where the picture is put back; levels of the mask from 128 on count as white.

    Raises StudioError for a strength or blur out of range, and for a mask that is black or of another aspect ratio.
    """

    picture: Image.Image
    mask: Image.Image | None = None
    denoising_strength: float | None = None
    mask_blur: float = MASK_BLUR

    def __post_init__(self) -> None:
        if self.denoising_strength is not None and not 0 < self.denoising_strength <= 1:
            raise StudioError(
                f"The denoising strength {self.denoising_strength:g} is out of range. Choose one above 0, up to 1."
            )
        if not self.mask_blur >= 0:
            raise StudioError(f"The mask blur {self.mask_blur:g} is negative. Choose 0 or more pixels.")
        if self.mask is None:
            return
        if not _same_aspect(self.mask.size, self.picture.size):
            (width, height), (own_width, own_height) = self.mask.size, self.picture.size
            raise StudioError(
                f"The mask has {width}x{height} pixels, and the start image {own_width}x{own_height}. Give a mask of "
                "the start image's size, or of its aspect ratio."
            )
        if _black(self.mask):
            raise StudioError("The mask is empty. Mark what is to be repainted in white.")

    def steps(self, num_inference_steps: int) -> int:
        """How many of the denoising steps run."""
        strength = strength_or_default(self.denoising_strength, self.mask is not None)
        return denoising_steps(num_inference_steps, strength)

    def size_for(self, base: Sized) -> tuple[int, int]:
        """The width and height that the base generates from it: near the picture's aspect ratio and the area of the
        base's own images, in multiples of the base's size step.
        """
        ratio, step = self.picture.width / self.picture.height, base.size_step
        widths, heights = (_near(base.side * side, step) for side in (sqrt(ratio), 1 / sqrt(ratio)))

        def deviation(size: tuple[int, int]) -> float:
            width, height = size
            return 2 * abs(log(width / height / ratio)) + abs(log(width * height / base.side**2))

        return min(product(widths, heights), key=deviation)

    def fitted(self, size: tuple[int, int]) -> "InitImage":
        """It in this width and height: the largest centred crop of that aspect ratio, scaled; the mask in black and
        white. A picture that has the size stays as it is, pixel for pixel.

        Raises StudioError where the crop leaves nothing of the mask.
        """
        picture = ImageOps.fit(self.picture.convert("RGB"), size, Image.Resampling.LANCZOS)
        if self.mask is None:
            return replace(self, picture=picture)
        mask = ImageOps.fit(self.mask.convert("L"), size, Image.Resampling.BILINEAR).point(_WHITE)
        if _black(mask):
            raise StudioError(
                f"Nothing of the mask is left at {size[0]}x{size[1]} pixels. Mark a larger part in white, or choose "
                "another size."
            )
        return replace(self, picture=picture, mask=mask)

    def overlaid(self, generated: Image.Image) -> Image.Image:
        """A generated image of this one's size, with the picture's own pixels where the blurred mask is black."""
        if self.mask is None:
            return generated
        blurred = self.mask.filter(ImageFilter.GaussianBlur(self.mask_blur))
        return Image.composite(generated, self.picture, blurred)


def placed(init_image: InitImage | None, settings: Settings, base: Sized) -> tuple[Settings, InitImage | None]:
    """The settings with the images' size, and the start image at that size; as they are where there is none.

    Raises StudioError for an impossible size, and as `InitImage.fitted` does.
    """
    if init_image is None:
        return settings, None
    sized = settings.model_copy(update={"size": settings.size or init_image.size_for(base)})
    return sized, init_image.fitted(sized.pixels(base))


def _near(side: float, step: int) -> set[int]:
    """The multiples of a step below and above a side, as far as an image may have them."""
    most = MAX_SIDE // step * step
    return {min(max(int(side // step + more) * step, step), most) for more in (0, 1)}


def _same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes differ by their scale alone; the smaller one may be rounded by a pixel."""
    small, large = sorted((size, other))
    scale = min(small[0] / large[0], small[1] / large[1])
    return all(abs(side - whole * scale) <= 1 for side, whole in zip(small, large, strict=True))


def _black(mask: Image.Image) -> bool:
    return mask.convert("L").point(_WHITE).getbbox() is None
