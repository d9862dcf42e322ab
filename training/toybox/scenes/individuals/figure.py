"""Draws an individual in a pose, on transparency, at the requested size."""

from collections.abc import Callable

from PIL import Image, ImageFilter

from training.toybox.sample_concepts.pen import Pose
from training.toybox.scenes.backgrounds import Rng
from training.toybox.scenes.individuals.backpack import draw_backpack
from training.toybox.scenes.individuals.bear import draw_bear
from training.toybox.scenes.individuals.car import draw_car
from training.toybox.scenes.individuals.house import draw_house
from training.toybox.scenes.individuals.owl import draw_owl
from training.toybox.scenes.individuals.pen import Build, QuickPen
from training.toybox.scenes.individuals.quadrupeds import FRAMES, draw_quadruped
from training.toybox.scenes.individuals.robot import draw_robot
from training.toybox.scenes.individuals.traits import Individual
from training.toybox.scenes.individuals.vessels import draw_teapot, draw_vase

SUPERSAMPLING = 3
LINE_UNITS, LINE_PIXELS = 0.8, 0.55
"""The blur of the silhouette's line: in figure units, and its minimum in pixels of the picture."""
FAINT = 20

FIGURES: dict[str, Callable[[QuickPen, Individual, Build, Pose], None]] = {
    **dict.fromkeys(FRAMES, draw_quadruped),
    "bear": draw_bear,
    "owl": draw_owl,
    "vase": draw_vase,
    "teapot": draw_teapot,
    "robot": draw_robot,
    "backpack": draw_backpack,
    "car": draw_car,
    "house": draw_house,
}
"""The function that draws each kind (`traits.KINDS`) with a pen, within 100 x 100 units."""


def sample_pose(rng: Rng) -> Pose:
    """A random pose; all values but the side and the stance are continuous."""
    head, swing, lean = rng.uniform(-1, 1, 3).tolist()
    flipped, second_stance = (rng.random(2) < 0.5).tolist()
    return Pose(12 * head, swing, 7 * lean, flipped, second_stance)


def draw_figure(individual: Individual, pose: Pose, width: float, height: float) -> Image.Image:
    """The individual alone as an RGBA picture, cropped, as large as fits into width x height pixels.

    Raises `KeyError` for a kind that is not in `traits.KINDS`.
    """
    scale = SUPERSAMPLING * max(8, height) / 100
    canvas = QuickPen.blank(scale)
    draw_on(canvas, individual, pose)
    figure = _silhouetted(canvas.image, max(LINE_UNITS * scale, LINE_PIXELS * SUPERSAMPLING))
    left, top, right, bottom = figure.getchannel("A").getbbox() or (0, 0, 1, 1)
    ratio = min(width / (right - left), height / (bottom - top))
    size = max(1, round(ratio * (right - left))), max(1, round(ratio * (bottom - top)))
    return figure.resize(size, Image.Resampling.HAMMING, (left, top, right, bottom))


def draw_on(canvas: QuickPen, individual: Individual, pose: Pose) -> None:
    """Draws the individual, without its silhouette's line, on an empty canvas."""
    pen = canvas.at(50, 50, angle=pose.lean, width=-1 if pose.flipped else 1).at(-50, -50)
    FIGURES[individual.kind](pen, individual, Build(individual.seed), pose)


def _silhouetted(figure: Image.Image, blur: float) -> Image.Image:
    """The figure, cropped, with a thin line around it: its transparent pixels have the line's colour already."""
    reach = round(3 * blur)
    left, top, right, bottom = figure.getchannel("A").getbbox() or (0, 0, 1, 1)
    figure = figure.crop((left - reach, top - reach, right + reach, bottom + reach))
    around = figure.getchannel("A").filter(ImageFilter.GaussianBlur(blur))
    figure.putalpha(around.point([0] * FAINT + [255] * (256 - FAINT)))
    return figure
