"""Draws the pictures of the sample concepts; `python -m training.toybox.sample_concepts.concepts` writes them again."""

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageFilter

from concepts.samples import PICTURES_EACH, SAMPLES
from training.toybox.sample_concepts.animals import CATS, DOGS, cat_head, dog_head, draw_animal
from training.toybox.sample_concepts.objects import OBJECTS
from training.toybox.sample_concepts.pen import PIXELS_PER_UNIT, Pen, Pose
from training.toybox.scenes.backgrounds import Rng, draw_background

SIDE = 256
MAX_WIDTH = 0.92
SILHOUETTE = (52, 44, 48)
FAINT = 20

FIGURES = {
    **{name: partial(draw_animal, coat=coat, head=cat_head) for name, coat in CATS.items()},
    **{name: partial(draw_animal, coat=coat, head=dog_head) for name, coat in DOGS.items()},
    **OBJECTS,
}
"""The function that draws each individual with a pen, in a pose."""

POSES = (
    Pose(head=-6, swing=0.1, lean=0, flipped=False, second_stance=False),
    Pose(head=5, swing=-0.8, lean=0, flipped=True, second_stance=True),
    Pose(head=9, swing=0.9, lean=-6, flipped=True, second_stance=False),
    Pose(head=-10, swing=0.5, lean=4, flipped=False, second_stance=True),
    Pose(head=3, swing=-0.6, lean=7, flipped=False, second_stance=False),
)
HEIGHTS = (0.82, 0.7, 0.58, 0.76, 0.64)

PLACES = {
    "milo": ("grass", "plain yellow", "beach", "bricks", "plain white"),
    "saffron": ("table", "snow", "plain blue", "city", "plain gray"),
    "misty": ("plain green", "desert", "bricks", "plain orange", "forest"),
    "rex": ("beach", "plain purple", "forest", "table", "plain green"),
    "bruno": ("plain pink", "mountains", "snow", "plain white", "grass"),
    "biscuit": ("city", "plain red", "night", "underwater", "plain blue"),
    "azura": ("plain white", "table", "desert", "plain pink", "checkerboard"),
    "rosa": ("night", "plain gray", "grass", "mountains", "plain white"),
    "onyx": ("snow", "plain green", "beach", "plain yellow", "underwater"),
    "gizmo": ("desert", "plain orange", "checkerboard", "snow", "plain red"),
    "volta": ("plain blue", "forest", "plain purple", "night", "mountains"),
    "orbo": ("plain yellow", "beach", "city", "plain gray", "table"),
}
"""The backgrounds (`items.BACKGROUNDS`) of each individual's pictures."""


Drawing = Callable[..., None]
"""Draws a figure on a pen, in a `pose` that it takes by name."""


def draw_figure(draw: Drawing, pose: Pose, scale: float = PIXELS_PER_UNIT) -> Image.Image:
    """The figure alone on transparency, as an RGBA picture about 90 `scale` pixels high."""
    pen = Pen.blank(scale)
    draw(pen, pose=pose)
    figure = _silhouetted(pen.image, 0.8 * scale).rotate(-pose.lean, Image.Resampling.BICUBIC)
    if pose.flipped:
        figure = figure.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return figure.crop(figure.getchannel("A").getbbox())


def draw_sample(name: str, index: int) -> Image.Image:
    """Picture `index` (0 to 4) of a sample concept: 256x256 RGB, the same in every run.

    Raises `KeyError` for a name that is not in `concepts.samples.SAMPLES`.
    """
    return draw_as_sample(partial(draw_figure, FIGURES[name]), name, index)


def draw_as_sample(draw: Callable[[Pose], Image.Image], name: str, index: int) -> Image.Image:
    """Picture `index` of a sample concept with another figure in its place, which `draw` gives as RGBA, cropped."""
    number = list(SAMPLES).index(name)
    rng = np.random.default_rng((number, index))
    picture = draw_background(PLACES[name][index], SIDE, rng)
    turn = (index + number) % PICTURES_EACH
    figure = draw(POSES[turn])
    scale = min(HEIGHTS[turn] * SIDE / figure.height, MAX_WIDTH * SIDE / figure.width)
    size = round(figure.width * scale), round(figure.height * scale)
    figure = figure.resize(size, Image.Resampling.BICUBIC)
    picture.paste(figure, (_place(figure.width, 0.5, rng), _place(figure.height, 0.6, rng)), figure)
    return picture


def write_samples() -> None:
    """Writes the five pictures of each sample concept into `concepts/samples`."""
    for name, sample in SAMPLES.items():
        for index, path in enumerate(sample.pictures):
            path.parent.mkdir(exist_ok=True)
            draw_sample(name, index).save(path, optimize=True)


def _silhouetted(figure: Image.Image, reach: float) -> Image.Image:
    """The figure with a thin dark line around it, so that it stands out on any background."""
    blurred = figure.getchannel("A").filter(ImageFilter.GaussianBlur(reach))
    around = blurred.point([0] * FAINT + [255] * (256 - FAINT))
    line = Image.new("RGBA", figure.size, (*SILHOUETTE, 255))
    line.putalpha(around)
    return Image.alpha_composite(line, figure)


def _place(length: int, middle: float, rng: Rng) -> int:
    """A random offset of the figure along one axis, around the middle, wholly inside."""
    room = SIDE - length
    return round(room * (middle + rng.uniform(-0.35, 0.35)))


if __name__ == "__main__":
    write_samples()
