"""A faster pen for small canvases, and the random proportions and colours of an individual."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.toybox.sample_concepts.pen import Outline, Pen, shade
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.traits import Individual
from training.toybox.scenes.items import COLOURS

SILHOUETTE = (52, 44, 48)
CANVAS_UNITS, ABOVE = 158, 40
"""The canvas's side, and how far its top lies above the figure's 100 x 100 units: ears and hats rise above them."""
FEW_POINTS = 8
"""A line of up to this many points may have sharp corners; one of more is a smooth curve."""


class QuickPen(Pen):
    """A pen for small canvases: fewer circles on its lines, and layers cropped to their content."""

    @classmethod
    def blank(cls, pixels_per_unit: float = 3) -> "QuickPen":
        """A square canvas of CANVAS_UNITS whose transparent pixels have the colour of the silhouette's line."""
        side = round(CANVAS_UNITS * pixels_per_unit)
        image = Image.new("RGBA", (side, side), (*SILHOUETTE, 0))
        corner = np.array([(CANVAS_UNITS - 100) / 2, ABOVE]) * pixels_per_unit
        return cls(image, np.eye(2) * pixels_per_unit, corner)

    def fill(self, points: Sequence | Outline, colour: Colour, edge: float = 0) -> None:
        """A filled outline; `edge` is the width in units of its rim in a darker shade."""
        pixels, draw = self._flat(points), ImageDraw.Draw(self.image)
        draw.polygon(pixels, fill=colour)
        if edge:
            draw.line([*pixels, pixels[0]], fill=shade(colour, 0.72), width=max(2, round(edge * self.scale)))

    def stroke(self, points: Sequence | Outline, width: float, colour: Colour) -> None:
        """A line `width` units thick with round ends."""
        draw, pixels = ImageDraw.Draw(self.image), self._flat(points)
        thick = max(1.6, width * self.scale)
        draw.line(pixels, fill=colour, width=round(thick))
        if thick < 3:
            return
        corners = pixels if len(pixels) <= FEW_POINTS else [*pixels[:-1:3], pixels[-1]]
        for x, y in corners:
            draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=colour)

    @contextmanager
    def inside(self, points: Sequence | Outline, opacity: float = 1) -> Iterator["QuickPen"]:
        """A pen whose drawing shows only inside the outline, laid over with this opacity."""
        outline = self._pixels(points)
        width, height = self.image.size
        left, top = np.maximum(np.floor(outline.min(0)).astype(int), 0).tolist()
        right, bottom = np.minimum(np.ceil(outline.max(0)).astype(int) + 1, (width, height)).tolist()
        if right <= left or bottom <= top:
            yield QuickPen(Image.new("RGBA", (1, 1)), self.matrix, self.offset)
            return
        region = self.image.crop((left, top, right, bottom))
        yield QuickPen(region, self.matrix, self.offset - (left, top))
        mask = Image.new("L", region.size)
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in outline.tolist()], fill=round(255 * opacity))
        self.image.paste(region, (left, top), mask)

    @property
    def scale(self) -> float:
        """Pixels per unit, as a geometric mean of both directions."""
        (a, b), (c, d) = self.matrix.tolist()
        return abs(a * d - b * c) ** 0.5

    def _flat(self, points: Sequence | Outline) -> list[tuple[float, float]]:
        return list(map(tuple, self._pixels(points).tolist()))


class Build:
    """The random numbers of one individual, deterministic by its seed; call in a fixed order."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def between(self, low: float, high: float) -> float:
        """A uniformly random number."""
        return low + (high - low) * self.rng.random()

    def index(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return int(self.rng.integers(count))

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return self.rng.random() < share

    def vary(self, colour: Colour, amount: int = 9) -> Colour:
        """The colour, each channel moved by up to `amount` levels."""
        red, green, blue = np.clip(np.array(colour) + self.rng.integers(-amount, amount + 1, 3), 0, 255).tolist()
        return red, green, blue


@dataclass(frozen=True)
class Palette:
    """The colours of one individual: its main colour, its pattern's and its accessory's, all in its own shades."""

    main: Colour
    second: Colour
    accessory: Colour


def palette_of(individual: Individual, build: Build) -> Palette:
    """The individual's colours; without a pattern or accessory, its main colour is used."""
    main = build.vary(COLOURS[individual.colour])
    second = build.vary(COLOURS[individual.second_colour]) if individual.second_colour else main
    accessory = build.vary(COLOURS[individual.accessory_colour], 6) if individual.accessory_colour else main
    return Palette(main, second, accessory)
