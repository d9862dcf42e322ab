"""A small vector pen for the sample concepts: smooth flat shapes in figure units on a supersampled canvas."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from training.toybox.scenes.backgrounds import Colour

Outline = NDArray[np.floating]
"""Points in figure units, shape (points, 2): x to the right, y down."""

BLACK, WHITE, GOLD = (34, 34, 40), (250, 250, 248), (250, 195, 40)
CANVAS_UNITS = 140
PIXELS_PER_UNIT = 10
STEPS = 14


@dataclass(frozen=True)
class Pose:
    """How an individual stands in one picture.

    `head` and `lean` are degrees by which the head and the whole figure tilt; `swing`, from -1 to 1, moves
    tail, ears, legs and arms, or turns a vase. In the second stance an animal sits, a robot waves, and a vase
    is seen from above.
    """

    head: float
    swing: float
    lean: float
    flipped: bool
    second_stance: bool


class Pen:
    """Draws on an RGBA picture in its own units: p -> matrix (2, 2) p + offset (2,), in pixels."""

    def __init__(self, image: Image.Image, matrix: NDArray, offset: NDArray):
        self.image, self.matrix, self.offset = image, matrix, offset

    @classmethod
    def blank(cls, pixels_per_unit: float = PIXELS_PER_UNIT) -> Self:
        """A transparent canvas of 140 x 140 units; the figure belongs in the 100 x 100 in its middle."""
        side = round(CANVAS_UNITS * pixels_per_unit)
        margin = (CANVAS_UNITS - 100) / 2 * pixels_per_unit
        return cls(Image.new("RGBA", (side, side)), np.eye(2) * pixels_per_unit, np.full(2, margin))

    def at(self, x: float, y: float, angle: float = 0, width: float = 1, height: float = 1) -> Self:
        """A pen whose origin is (x, y), turned clockwise by `angle` degrees; a width of -1 mirrors it."""
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turn = np.array([[cos, -sin], [sin, cos]]) * [width, height]
        return type(self)(self.image, self.matrix @ turn, self._pixels([(x, y)])[0])

    def fill(self, points: Sequence | Outline, colour: Colour, edge: float = 0) -> None:
        """A filled outline; `edge` is the width in units of its rim in a darker shade."""
        ImageDraw.Draw(self.image).polygon(self._flat(points), fill=colour)
        if edge:
            self.stroke(np.concatenate([points, points[:2]]), edge, shade(colour, 0.78))

    def stroke(self, points: Sequence | Outline, width: float, colour: Colour) -> None:
        """A line `width` units thick with round ends."""
        draw, pixels = ImageDraw.Draw(self.image), self._flat(points)
        thick = width * abs(np.linalg.det(self.matrix)) ** 0.5
        draw.line(pixels, fill=colour, width=round(thick))
        for x, y in pixels:
            draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=colour)

    @contextmanager
    def inside(self, points: Sequence | Outline, opacity: float = 1) -> Iterator[Self]:
        """A pen whose drawing shows only inside the outline, laid over with this opacity."""
        layer, mask = Image.new("RGBA", self.image.size), Image.new("L", self.image.size)
        yield type(self)(layer, self.matrix, self.offset)
        ImageDraw.Draw(mask).polygon(self._flat(points), fill=round(255 * opacity))
        layer.putalpha(ImageChops.multiply(layer.getchannel("A"), mask))
        self.image.alpha_composite(layer)

    def _pixels(self, points: Sequence | Outline) -> Outline:
        return np.asarray(points, float) @ self.matrix.T + self.offset

    def _flat(self, points: Sequence | Outline) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in self._pixels(points)]


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, darker (factor below 1) or lighter (above)."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def oval(x: float, y: float, width: float, height: float, angle: float = 0) -> Outline:
    """An ellipse around (x, y), turned clockwise by `angle` degrees."""
    around = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    upright = np.stack([np.cos(around) * width / 2, np.sin(around) * height / 2], 1)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return upright @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


def curve(points: Sequence | Outline) -> Outline:
    """A smooth line through the points (Catmull-Rom)."""
    knots = np.asarray(points, float)
    return _spline(np.concatenate([[2 * knots[0] - knots[1]], knots, [2 * knots[-1] - knots[-2]]]))


def smooth(points: Sequence | Outline) -> Outline:
    """A smooth closed outline through the points."""
    knots = np.asarray(points, float)
    return _spline(np.concatenate([knots[-1:], knots, knots[:2]]))


def rounded(left: float, top: float, right: float, bottom: float, radius: float) -> Outline:
    """A rectangle with round corners."""
    corner = oval(0, 0, 2 * radius, 2 * radius).reshape(4, 16, 2)
    centres = [(right, bottom, -1, -1), (left, bottom, 1, -1), (left, top, 1, 1), (right, top, -1, 1)]
    middles = np.array([(x + sx * radius, y + sy * radius) for x, y, sx, sy in centres])
    return (corner + middles[:, None]).reshape(-1, 2)


def _spline(knots: Outline) -> Outline:
    t = np.linspace(0, 1, STEPS, endpoint=False)[:, None]
    before, start, end, after = knots[:-3, None], knots[1:-2, None], knots[2:-1, None], knots[3:, None]
    bend = 2 * before - 5 * start + 4 * end - after
    twist = 3 * start - before - 3 * end + after
    segments = (2 * start + (end - before) * t + bend * t**2 + twist * t**3) / 2
    return np.concatenate([segments.reshape(-1, 2), knots[-2:-1]])
