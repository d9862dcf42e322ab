"""Draws toybox's scenes: one or two things, plain or recoloured, at varied size and place, on a background."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.toybox.backgrounds import Rng, draw_background
from training.toybox.world import COLOURS, MARKING_COLOURS, MARKINGS, PLACES, PLAIN, THINGS

SPRITES = Path(__file__).parent / "sprites"
SIDE = 128


@dataclass(frozen=True)
class Marking:
    """Stripes, spots or a half in another colour (`world.MARKINGS`, `world.MARKING_COLOURS`) over a thing."""

    kind: str
    colour: str
    seed: int


@dataclass(frozen=True)
class Item:
    """One thing in a scene: `centre` and `size` in units of the picture's side, `colour` None as drawn."""

    thing: str
    colour: str | None
    centre: tuple[float, float]
    size: float
    marking: Marking | None = None


@dataclass(frozen=True)
class Scene:
    """What is to be drawn: the items from back to front, the background's name, the seed of its details."""

    items: tuple[Item, ...]
    background: str
    seed: int


@cache
def sprite(thing: str, colour: str | None) -> Image.Image:
    """The RGBA picture of a thing (`world.THINGS`), recoloured when a colour of `world.COLOURS` is named."""
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


def marked(picture: Image.Image, marking: Marking) -> Image.Image:
    """The picture with the marking mixed into its opaque parts, so that its shading stays visible."""
    rng = np.random.default_rng(marking.seed)
    mask = Image.new("L", picture.size)
    draw, (width, height) = ImageDraw.Draw(mask), picture.size
    if marking.kind == "stripes":
        pitch, lean = rng.integers(14, 26), rng.integers(-20, 21)
        for left in range(-40, width + 40, int(pitch)):
            draw.line((left, 0, left + int(lean), height), fill=200, width=int(pitch) // 2)
    elif marking.kind == "spots":
        for x, y in rng.uniform(0, 1, (12, 2)) * (width, height):
            radius = rng.uniform(6, 12)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=215)
    else:
        edge = rng.uniform(0.35, 0.65)
        draw.rectangle(
            (0, int(edge * height), width, height) if rng.random() < 0.5 else (0, 0, int(edge * width), height),
            fill=200,
        )
    paint = recoloured(picture, MARKING_COLOURS[marking.colour])
    result = Image.composite(paint, picture, mask)
    result.putalpha(picture.getchannel("A"))
    return result


def sample_scene(rng: Rng, marked_share: float = 0.0, spread: float = 1.0) -> Scene:
    """A random scene: 4% empty places, 50% one thing, 46% two; a share of the things with markings.

    `spread` is how much places and sizes vary, 0 to 1.
    """
    count = int(rng.choice(3, p=(0.04, 0.50, 0.46)))
    things = rng.choice(list(THINGS), size=count, replace=False)
    background = str(rng.choice(list(PLACES))) if rng.random() < 0.6 else f"plain {rng.choice(list(PLAIN))}"
    visible = [colour for colour in COLOURS if background != f"plain {colour}"]
    named = [str(rng.choice(visible)) if rng.random() < 0.45 else None for _ in things]
    spots = _spots(count, rng, spread)
    items = tuple(
        Item(str(thing), colour, (x, y), size, _marking(rng, marked_share))
        for thing, colour, (x, y, size) in zip(things, named, spots, strict=True)
    )
    return Scene(items, background, int(rng.integers(2**31)))


def _marking(rng: Rng, share: float) -> Marking | None:
    if not share or rng.random() >= share:
        return None
    kind, colour = str(rng.choice(list(MARKINGS))), str(rng.choice(list(MARKING_COLOURS)))
    return Marking(kind, colour, int(rng.integers(2**31)))


def _spots(count: int, rng: Rng, spread: float) -> list[tuple[float, float, float]]:
    if count == 2:
        return [_beside(rng, side, spread) for side in rng.permutation([0.26, 0.74])]
    spots = []
    for _ in range(count):
        size = 0.65 + spread * rng.uniform(-0.1, 0.1)
        reach = 0.6 * spread * (1 - size) / 2
        spots.append((0.5 + rng.uniform(-reach, reach), 0.5 + rng.uniform(-reach, reach), size))
    return spots


def _beside(rng: Rng, side: float, spread: float) -> tuple[float, float, float]:
    across, down, size = spread * rng.uniform(-1, 1, 3) * (0.02, 0.09, 0.03)
    return side + across, 0.51 + down, 0.47 + size


def draw_scene(scene: Scene, side: int = SIDE) -> Image.Image:
    """The scene as an RGB picture of side x side pixels."""
    picture = draw_background(scene.background, side, np.random.default_rng(scene.seed))
    for item in scene.items:
        image = sprite(item.thing, item.colour)
        image, corner = _placed(marked(image, item.marking) if item.marking else image, item, side)
        picture.paste(image, corner, image)
    return picture


def silhouette(item: Item, side: int = SIDE) -> Image.Image:
    """Where the item is in a picture of side x side pixels: its opacity as a grey picture."""
    image, corner = _placed(sprite(item.thing, None).getchannel("A"), item, side)
    picture = Image.new("L", (side, side))
    picture.paste(image, corner)
    return picture


def _placed(image: Image.Image, item: Item, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """The item's picture at its size, and where its top left corner (left, top) comes."""
    scale = item.size * side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    corner = (round(item.centre[0] * side - size[0] / 2), round(item.centre[1] * side - size[1] / 2))
    return image.resize(size, Image.Resampling.BILINEAR), corner
