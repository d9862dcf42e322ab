"""Owls: a round body with two wings, large eyes and a beak."""

import numpy as np

from training.toybox.sample_concepts.pen import BLACK, WHITE, Outline, Pose, curve, oval, shade, smooth
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.accessories import NECKWEAR, draw_headwear, draw_neckwear
from training.toybox.scenes.individuals.pen import Build, Palette, QuickPen, palette_of
from training.toybox.scenes.individuals.traits import Individual

BEAK, IRISES = (250, 176, 40), ((255, 205, 50), (250, 150, 40), (130, 210, 100), (110, 195, 245))


def draw_owl(pen: QuickPen, individual: Individual, build: Build, pose: Pose) -> None:
    """The owl seen from the front; in the second stance it spreads its wings."""
    palette, pattern = palette_of(individual, build), individual.pattern
    width, height = build.between(50, 62), build.between(58, 66)
    disc = build.vary((255, 244, 222) if build.chance(0.7) else WHITE, 5)
    iris, eye, tuft = IRISES[build.index(4)], build.between(16, 20), build.between(0.7, 1.3)
    tuft_style = build.index(3)
    body = smooth(
        [(50, 26), (50 + width * 0.44, 38), (50 + width / 2, 62), (50 + width * 0.3, 30 + height), (50, 33 + height),
         (50 - width * 0.3, 30 + height), (50 - width / 2, 62), (50 - width * 0.44, 38)]
    )  # fmt: skip
    for side in (-1, 1):
        for toe in (-4, 0, 4):
            pen.stroke([(50 + side * 11, 29 + height), (50 + side * 11 + toe, 36 + height)], 4.5, BEAK)
    if pose.second_stance:
        _wings(pen, palette.main, width, 72 + 20 * pose.swing)
    pen.fill(body, palette.main, edge=1.2)
    _breast(pen, palette, pattern, body, width, build)
    if not pose.second_stance:
        _wings(pen, palette.main, width, 4 + 14 * (1 + pose.swing))
    head = pen.at(50, 34, angle=pose.head * 0.8)
    _head(head, palette.main, disc, iris, eye, tuft, tuft_style)
    if individual.accessory in NECKWEAR:
        draw_neckwear(pen.at(50, 52, angle=pose.head / 2), individual.accessory, palette.accessory)
    elif individual.accessory:
        draw_headwear(head, individual.accessory, palette.accessory, -20, 12, -1)


def _breast(pen: QuickPen, palette: Palette, pattern: str, body: Outline, width: float, build: Build) -> None:
    """The pattern on the breast; a plain owl's is a lighter or darker shade of its colour."""
    breast = oval(50, 74, width * build.between(0.66, 0.78), 50)
    pitch, shift = build.between(9, 12.5), build.between(0, 4)
    with pen.inside(body) as inner:
        if pattern in ("plain", "bib"):
            inner.fill(breast, palette.second if pattern == "bib" else shade(palette.main, 0.82))
        elif pattern == "stripes":
            for y in np.arange(56 + shift, 100, pitch):
                inner.stroke(curve([(20, y - 4), (50, y + 4), (80, y - 4)]), pitch * 0.48, palette.second)
        elif pattern == "spots":
            for row, y in enumerate(np.arange(58 + shift, 98, pitch)):
                for x in np.arange(22 + pitch / 2 * (row % 2), 82, pitch):
                    inner.fill(oval(x, y, pitch * 0.55, pitch * 0.62), palette.second)
        else:
            for row, y in enumerate(np.arange(54, 100, pitch)):
                for x in np.arange(20 + shift + pitch * (row % 2), 84, 2 * pitch):
                    inner.fill([(x, y), (x + pitch, y), (x + pitch, y + pitch), (x, y + pitch)], palette.second)


def _wings(pen: QuickPen, colour: Colour, width: float, lift: float) -> None:
    for side in (-1, 1):
        wing = pen.at(50 + side * width * 0.44, 47, angle=-side * lift, width=side)
        feathers = [(-4, -2), (5, 2), (9, 16), (7, 30), (2, 38), (-3, 31), (-6, 16)]
        wing.fill(smooth(feathers), shade(colour, 0.84), edge=1.4)
        for x, y in ((0, 22), (4, 17)):
            wing.stroke([(x, y), (x - 0.5, y + 9)], 1.4, shade(colour, 0.6))


def _head(pen: QuickPen, colour: Colour, disc: Colour, iris: Colour, eye: float, tuft: float, style: int) -> None:
    for side in (-1, 1):
        ear = pen.at(side * 15, -12, width=side, height=tuft)
        tip = ((12, -20), (17, -13), (5, -20))[style]
        ear.fill(smooth([(-9, 2), (-2, -8), tip, (10, 0), (9, 9)]), shade(colour, 0.84), edge=1)
    pen.fill(smooth([(-27, 2), (-20, -15), (0, -20), (20, -15), (27, 2), (17, 17), (0, 20), (-17, 17)]), colour, edge=1)
    for side in (-1, 1):
        pen.fill(oval(side * 11.5, 0, eye + 8, eye + 9), disc, edge=0.8)
    for side in (-1, 1):
        pen.fill(oval(side * 11, -0.5, eye, eye), iris, edge=1)
        pen.fill(oval(side * 10.5, -0.5, eye * 0.58, eye * 0.62), BLACK)
        pen.fill(oval(side * 10.5 - 2, -3, 4, 4), WHITE)
    pen.fill(smooth([(-4.5, 5), (0, 3), (4.5, 5), (0, 14)]), BEAK, edge=1)
