import numpy as np
import pytest
from PIL import Image

from concepts.errors import StudioError
from studio.models.img2img.init_image import InitImage, placed
from studio.models.sampling_settings import SamplingSettings


class Square:
    """A base of 128 pixels a side, as toybox."""

    side, size_step = 128, 32


def picture(width: int, height: int) -> Image.Image:
    """Noise, in which a pixel that moves is seen."""
    levels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    drawn = Image.new("L", size)
    drawn.paste(255, box)
    return drawn


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ((256, 256), (128, 128)),
        ((4000, 3000), (128, 96)),
        ((3000, 4000), (96, 128)),
        ((1920, 1080), (160, 96)),
        ((256, 128), (192, 96)),
        ((2000, 64), (736, 32)),
        ((64, 2000), (32, 736)),
    ],
)
def test_the_size_follows_the_aspect_ratio(own: tuple[int, int], expected: tuple[int, int]):
    settings, fitted = placed(InitImage(Image.new("RGB", own)), SamplingSettings(), Square())
    assert fitted
    assert settings.size == fitted.picture.size == expected


def test_a_size_that_is_given_crops_the_middle():
    wide = Image.new("RGB", (384, 128), "red")
    wide.paste("blue", (128, 0, 256, 128))
    settings, fitted = placed(InitImage(wide), SamplingSettings(size=(64, 64)), Square())
    assert fitted
    assert settings.size == fitted.picture.size == (64, 64)
    assert np.asarray(fitted.picture)[..., 2].min() > 230
    with pytest.raises(StudioError, match="Size 100x64 is impossible"):
        placed(InitImage(wide), SamplingSettings(size=(100, 64)), Square())


def test_a_picture_of_the_size_stays_as_it_is():
    start = InitImage(picture(128, 128), mask((128, 128), (0, 0, 64, 128)))
    fitted = start.fitted((128, 128))
    assert fitted.mask
    assert fitted.picture.tobytes() == start.picture.tobytes()
    assert fitted.mask.getbbox() == (0, 0, 64, 128)


def test_the_mask_is_cropped_with_the_picture_and_scaled_to_it():
    """The mask is half as large as the picture; the crop takes a third of the width at either side."""
    fitted = InitImage(picture(384, 128), mask((192, 64), (64, 0, 96, 64))).fitted((128, 128))
    assert fitted.mask
    assert fitted.mask.getbbox() == (0, 0, 64, 128)
    assert set(fitted.mask.tobytes()) == {0, 255}


def test_the_overlay_keeps_what_is_black_and_blurs_the_edge():
    start, generated = picture(64, 64), Image.new("RGB", (64, 64), "red")
    inside = mask((64, 64), (0, 0, 32, 64))
    sharp = np.asarray(InitImage(start, inside, mask_blur=0).overlaid(generated))
    assert np.array_equal(sharp[:, 32:], np.asarray(start)[:, 32:])
    assert np.array_equal(sharp[:, :32], np.asarray(generated)[:, :32])
    blurred = np.asarray(InitImage(start, inside, mask_blur=4).overlaid(generated))
    assert np.array_equal(blurred[:, 48:], np.asarray(start)[:, 48:])
    assert not np.array_equal(blurred[:, 32:40], np.asarray(start)[:, 32:40])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"denoising_strength": 0}, r"strength 0 is out of range. Choose one above 0, up to 1\."),
        ({"denoising_strength": 1.5}, r"strength 1\.5 is out of range"),
        ({"mask_blur": -1}, "Choose 0 or more pixels"),
        ({"mask": Image.new("L", (80, 64))}, "80x64 pixels, and the start image 160x160"),
        ({"mask": Image.new("L", (160, 157))}, "of the start image's size, or of its aspect ratio"),
        ({"mask": Image.new("L", (160, 160), 127)}, "The mask is empty. Mark what is to be repainted in white."),
    ],
)
def test_what_cannot_be_is_refused(given: dict, said: str):
    with pytest.raises(StudioError, match=said):
        InitImage(picture(160, 160), **given)


def test_a_mask_that_the_crop_leaves_out_is_refused():
    start = InitImage(picture(300, 100), mask((300, 100), (0, 0, 40, 100)))
    with pytest.raises(StudioError, match="Nothing of the mask is left at 128x128 pixels"):
        start.fitted((128, 128))


@pytest.mark.parametrize("size", [(100, 75), (101, 75), (400, 300), (53, 40)])
def test_a_mask_of_another_scale_is_taken(size: tuple[int, int]):
    assert InitImage(picture(200, 150), Image.new("L", size, 255)).fitted((128, 96)).mask


@pytest.mark.parametrize(
    ("strength", "masked", "steps"),
    [(0.6, False, 12), (0.01, False, 1), (1, False, 20), (None, False, 15), (None, True, 20), (0.5, True, 10)],
)
def test_the_steps_that_run(strength: float | None, masked: bool, steps: int):
    start = InitImage(picture(64, 64), mask((64, 64), (0, 0, 9, 9)) if masked else None, strength)
    assert start.steps(20) == steps
