"""Renders scenes: up to three items, individuals or things, of random size, place and pose."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from training.toybox.sample_concepts.pen import Pose
from training.toybox.scenes.backgrounds import Rng, draw_background
from training.toybox.scenes.individuals.figure import draw_figure, sample_pose
from training.toybox.scenes.individuals.traits import KINDS, Individual, sample_individual
from training.toybox.scenes.items import COLOURS, PLACES, PLAIN, THINGS, TINTS

SPRITES = Path(__file__).parent / "sprites"
SIDE = 128
COUNTS = (0.03, 0.45, 0.36, 0.16)
"""The probabilities of scenes with none, one, two and three items."""
INDIVIDUALS, TINTED, ALIKE = 0.78, 0.45, 0.12
"""The probabilities that an item is an individual, a thing is recoloured, and items may be of one kind."""
SLOTS = (((0.0, 1.0),), ((0.0, 0.52), (0.48, 1.0)), ((0.0, 0.355), (0.325, 0.675), (0.645, 1.0)))
HEIGHTS = ((0.56, 0.9), (0.42, 0.62), (0.32, 0.48))
"""The columns of one, two and three items, and the ranges of their heights, in units of the picture's side."""


@dataclass(frozen=True)
class Tinted:
    """A thing of `items.THINGS`; its colour (of `items.TINTS`) is None for the original colours."""

    name: str
    colour: str | None = None


@dataclass(frozen=True)
class Item:
    """One item in a scene.

    It is as large as fits into its slot (left, right) and its height, in units of the picture's side; `place` is its
    position within the slot: (0, 0) top left, (1, 1) bottom right. A thing has no pose.
    """

    subject: Individual | Tinted
    slot: tuple[float, float]
    height: float
    place: tuple[float, float]
    pose: Pose | None = None

    @property
    def kind(self) -> str:
        """A name of `individuals.traits.KINDS` or of `items.THINGS`."""
        return self.subject.kind if isinstance(self.subject, Individual) else self.subject.name

    @property
    def colour(self) -> str | None:
        """The main colour, None for a thing in its original colours."""
        return self.subject.colour

    @property
    def centre(self) -> tuple[float, float]:
        """The approximate centre, in units of the picture's side; `draw_with_placements` returns it exactly."""
        left, right = self.slot
        width = min(right - left, self.height)
        x, y = self.place
        return left + width / 2 + x * (right - left - width), self.height / 2 + y * (1 - self.height)


@dataclass(frozen=True)
class Scene:
    """A scene to render: the items from back to front, the background's name, the seed of its details."""

    items: tuple[Item, ...]
    background: str
    seed: int


@dataclass(frozen=True)
class Placement:
    """An item's placement: its box (left, top, right, bottom) in pixels, its opacity as a grey picture."""

    box: tuple[int, int, int, int]
    silhouette: Image.Image


@cache
def sprite(thing: str, colour: str | None) -> Image.Image:
    """The RGBA picture of a thing (`items.THINGS`), recoloured if a colour of `items.TINTS` is given."""
    with Image.open(SPRITES / f"{thing.replace(' ', '_')}.png") as file:
        picture = file.convert("RGBA")
    return picture if colour is None else recoloured(picture, COLOURS[colour])


def recoloured(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """The picture in shades of one colour: dark parts towards black, light parts towards white."""
    pixels = np.asarray(picture, dtype=np.float32) / 255
    shade, alpha = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32), pixels[..., 3:]
    middle = float(np.average(shade, weights=alpha[..., 0]))
    dark = np.clip(shade / max(middle, 1e-3), 0, 1)[..., None]
    light = np.clip((shade - middle) / max(1 - middle, 1e-3), 0, 1)[..., None]
    tint = np.array(colour, np.float32) / 255
    mixed = tint * (0.15 + 0.85 * dark)
    mixed = mixed + (1 - mixed) * 0.65 * light
    return Image.fromarray((np.concatenate([mixed, alpha], -1) * 255).round().astype(np.uint8), "RGBA")


def sample_scene(rng: Rng) -> Scene:
    """A random scene."""
    count = int(rng.choice(4, p=COUNTS))
    background = str(rng.choice(list(PLACES))) if rng.random() < 0.6 else f"plain {rng.choice(list(PLAIN))}"
    subjects = _subjects(count, background, rng)
    slots = SLOTS[count - 1] if count else ()
    items = [_item(subject, slot, count, rng) for subject, slot in zip(subjects, slots, strict=True)]
    order = rng.permutation(count)
    return Scene(tuple(items[i] for i in order), background, int(rng.integers(2**31)))


def _subjects(count: int, background: str, rng: Rng) -> list[Individual | Tinted]:
    """Subjects of different kinds, or sometimes of one kind in different colours."""
    hidden = ("black",) if background == "night" else (background.removeprefix("plain "),)
    alike = rng.random() < ALIKE
    chosen: list[Individual | Tinted] = []
    while len(chosen) < count:
        if rng.random() < INDIVIDUALS:
            kind = chosen[0].kind if alike and chosen and isinstance(chosen[0], Individual) else None
            subject = sample_individual(rng, kind, hidden)
        else:
            subject = _thing(hidden, rng)
        if all(_distinguishable(subject, other) for other in chosen):
            chosen.append(subject)
    return chosen


def _thing(hidden: tuple[str, ...], rng: Rng) -> Tinted:
    tints = [name for name in TINTS if name not in hidden]
    return Tinted(str(rng.choice(list(THINGS))), str(rng.choice(tints)) if rng.random() < TINTED else None)


def _distinguishable(one: Individual | Tinted, other: Individual | Tinted) -> bool:
    if isinstance(one, Individual) and isinstance(other, Individual):
        return one.colour != other.colour
    return isinstance(one, Individual) or isinstance(other, Individual) or one.name != other.name


def _item(subject: Individual | Tinted, slot: tuple[float, float], count: int, rng: Rng) -> Item:
    low, high = HEIGHTS[count - 1]
    across, down, size = rng.random(3).tolist()
    pose = sample_pose(rng) if isinstance(subject, Individual) else None
    # The lower half of the picture is where the ground is.
    return Item(subject, slot, low + size * (high - low), (across, 0.25 + 0.75 * down), pose)


def draw_scene(scene: Scene, side: int = SIDE) -> Image.Image:
    """The scene as an RGB picture of side x side pixels."""
    return draw_with_placements(scene, side)[0]


def draw_with_placements(scene: Scene, side: int = SIDE) -> tuple[Image.Image, list[Placement]]:
    """The scene as an RGB picture of side x side pixels, and its items' placements, in their order."""
    picture = draw_background(scene.background, side, np.random.default_rng(scene.seed))
    seen = []
    for item in scene.items:
        image, corner = _placed(item, side)
        picture.paste(image, corner, image)
        seen.append(_placement(image, corner, side))
    return picture, seen


def _placement(image: Image.Image, corner: tuple[int, int], side: int) -> Placement:
    opacity = Image.new("L", (side, side))
    opacity.paste(image.getchannel("A"), corner)
    return Placement((*corner, corner[0] + image.width, corner[1] + image.height), opacity)


def _placed(item: Item, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """The item's picture at its size, and the position (left, top) of its top left corner."""
    left, right = item.slot[0] * side, item.slot[1] * side
    width, height = 0.97 * (right - left), item.height * side
    if isinstance(item.subject, Individual):
        assert item.pose is not None, "an individual has a pose"
        image = draw_figure(item.subject, item.pose, width, height)
    else:
        image = _fitted(sprite(item.subject.name, item.subject.colour), width, height)
    x, y = item.place
    return image, (round(left + x * (right - left - image.width)), round(y * (side - image.height)))


def _fitted(image: Image.Image, width: float, height: float) -> Image.Image:
    scale = min(width / image.width, 0.9 * height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.HAMMING)


KIND_NAMES = (*KINDS, *THINGS)
"""All kinds of items: the individuals' kinds, then the things."""
