"""Draws what animals and robots wear, and the emblems on objects."""

from collections.abc import Callable

import numpy as np

from training.toybox.sample_concepts.pen import GOLD, WHITE, curve, oval, rounded, shade, smooth
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.pen import QuickPen

NECKWEAR = ("collar", "bow tie", "scarf", "bandana")


def draw_bow(pen: QuickPen, colour: Colour) -> None:
    """A bow of 30 units' width around the origin."""
    for side in (-1, 1):
        pen.fill(smooth([(0, 0), (side * 12, -9), (side * 16, 0), (side * 12, 9)]), colour, edge=1)
    pen.fill(oval(0, 0, 8, 9), shade(colour, 0.75))


def draw_neckwear(pen: QuickPen, name: str, colour: Colour) -> None:
    """A collar, bow tie, scarf or bandana around a neck of 30 units' width at the origin."""
    if name == "bow tie":
        draw_bow(pen.at(0, 4), colour)
    elif name == "collar":
        pen.stroke(curve([(-15, -2), (0, 4), (15, -2)]), 7, colour)
        pen.fill(oval(0, 9, 11, 11), GOLD, edge=1.2)
    elif name == "scarf":
        pen.fill(rounded(3, 2, 14, 28, 2), shade(colour, 0.85), edge=1)
        pen.stroke([(4.5, 21), (12.5, 21)], 2.5, shade(colour, 0.6))
        pen.stroke(curve([(-16, -2), (0, 5), (16, -2)]), 11, colour)
    else:
        pen.fill(smooth([(-17, -3), (0, 1), (17, -3), (10, 10), (0, 25), (-10, 10)]), colour, edge=1)
        dots = WHITE if min(colour) < 200 else shade(colour, 0.6)
        for x, y in ((-8, 5), (8, 5), (0, 8), (0, 17)):
            pen.fill(oval(x, y, 4, 4), dots)


def draw_headwear(pen: QuickPen, name: str, colour: Colour, top: float, apart: float, eyes: float) -> None:
    """A cap, bow, top hat, crown or glasses on a head around the origin.

    `top` is the y of the head's top, `eyes` that of the eyes, and `apart` the eyes' distance from the middle.
    """
    if name == "glasses":
        _glasses(pen, colour, apart, eyes)
        return
    hat = pen.at(0, top + 5)
    if name == "bow":
        draw_bow(hat.at(0, -7, width=1.1, height=1.1), colour)
    elif name == "cap":
        hat.fill(smooth([(-19, 1), (-16, -12), (0, -19), (16, -12), (19, 1), (0, -2)]), colour, edge=1)
        hat.fill(smooth([(-18, 0), (0, -3), (6, 0), (-12, 5), (-31, 8), (-33, 3)]), shade(colour, 0.75))
        hat.fill(oval(0, -18, 6, 4), shade(colour, 0.75))
    elif name == "top hat":
        hat.fill(rounded(-13, -27, 13, 0, 2), colour, edge=1)
        hat.fill([(-12, -8), (12, -8), (12, -3), (-12, -3)], shade(colour, 0.55) if max(colour) > 90 else (190, 60, 60))
        hat.fill(rounded(-21, -4, 21, 2, 2.5), colour, edge=1)
    else:
        hat.fill([(-15, 2), (-18, -16), (-8, -6), (0, -20), (8, -6), (18, -16), (15, 2)], colour, edge=1.2)
        for x, y in ((-18, -16), (0, -20), (18, -16)):
            hat.fill(oval(x, y, 5, 5), colour, edge=1)
        hat.fill(oval(0, -3, 5, 5), shade(colour, 0.6))


def _glasses(pen: QuickPen, colour: Colour, apart: float, eyes: float) -> None:
    ring = max(apart * 1.85, 15)
    pen.stroke([(-apart - ring / 2, eyes - 1), (-apart - ring / 2 - 5, eyes - 4)], 3, colour)
    pen.stroke([(apart + ring / 2, eyes - 1), (apart + ring / 2 + 5, eyes - 4)], 3, colour)
    for side in (-1, 1):
        glass = oval(side * apart, eyes, ring, ring)
        pen.stroke(np.concatenate([glass, glass[:2]]), 3.2, colour)
    pen.stroke([(-apart + ring / 2 - 1, eyes - 1), (apart - ring / 2 + 1, eyes - 1)], 3, colour)


def _star(pen: QuickPen, colour: Colour) -> None:
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 12.5, 5.6)
    pen.fill(np.stack([radii * np.sin(angles), -radii * np.cos(angles)], 1), colour, edge=1.4)


def _heart(pen: QuickPen, colour: Colour) -> None:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    pen.fill(np.stack([16 * np.sin(t) ** 3, y], 1) * 0.72, colour, edge=1.4)


def _flower(pen: QuickPen, colour: Colour) -> None:
    for angle in np.arange(5) * 2 * np.pi / 5:
        pen.fill(oval(7 * np.sin(angle), -7 * np.cos(angle), 10.5, 10.5), colour, edge=1)
    pen.fill(oval(0, 0, 8, 8), GOLD if colour[2] > 90 or colour[0] < 200 else WHITE)


EMBLEMS: dict[str, Callable[[QuickPen, Colour], None]] = {
    "star": _star,
    "heart": _heart,
    "flower": _flower,
    "bow": draw_bow,
}
"""The functions that draw an emblem about 24 units wide around a pen's origin."""
