"""Houses, seen from the front or from a corner."""

from dataclasses import replace

import numpy as np

from training.toybox.sample_concepts.pen import GOLD, WHITE, Outline, Pose, rounded, shade
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.car import draw_flag
from training.toybox.scenes.individuals.pen import Build, Palette, QuickPen, palette_of
from training.toybox.scenes.individuals.surfaces import draw_surface, surface_of
from training.toybox.scenes.individuals.traits import Individual

PANE, FRAME, BASE = (176, 220, 246), (250, 250, 248), (150, 150, 156)
DOORS = ((122, 76, 44), (150, 96, 52), (90, 70, 66), (70, 76, 96))


def draw_house(pen: QuickPen, individual: Individual, build: Build, pose: Pose) -> None:
    """The house; in the second stance its side wall is seen too."""
    palette = palette_of(individual, build)
    half, top = build.between(27, 36), build.between(42, 52)
    peak, eave = top - build.between(20, 30), build.between(4, 8)
    style, layout, door = build.index(3), build.index(3), DOORS[build.index(4)]
    neutral = build.vary(((112, 98, 96), (92, 98, 112), (140, 116, 100))[build.index(3)], 8)
    # What runs across the wall keeps clear of the windows and the awning.
    middle = 0.88 if individual.accessory == "awning" else build.between(0.2, 0.26)
    surface = replace(surface_of(individual.pattern, palette.second, build), middle=middle)
    roof_colour = palette.accessory if individual.accessory == "roof" else neutral
    side = 14 + 4 * pose.swing if pose.second_stance else 0
    left, right = 50 - half - side / 2, 50 + half - side / 2
    stack = (110, 80, 74) if individual.accessory != "chimney" else palette.accessory
    if individual.accessory == "chimney" or (build.chance(0.3) and individual.accessory != "flag"):
        _chimney(pen, left + 1.45 * half, peak, top, stack, individual.accessory == "chimney")
    if side:
        pen.fill([(right, top), (right + side, top - 3), (right + side, 86), (right, 90)], shade(palette.main, 0.66))
    wall = np.array([(left, top - 1), (right, top - 1), (right, 90), (left, 90)], float)
    pen.fill(wall, palette.main)
    draw_surface(pen, surface, wall)
    pen.stroke([*wall, wall[0]], 1.4, shade(palette.main, 0.7))
    if individual.accessory == "flag":
        draw_flag(pen.at((left + right) / 2, peak + 3), palette.accessory, pose.swing)
    _roof(pen, roof_colour, style, (left - eave, right + eave), (top, peak), side)
    _openings(pen, layout, door, (left, right), top, palette, individual.accessory == "awning")
    pen.fill(rounded(left - 2, 88, right + 2, 93, 1.5), BASE)
    if individual.accessory == "fence":
        _fence(pen, (left - 8, right + 8 + side), palette.accessory)


def _roof(
    pen: QuickPen, colour: Colour, style: int, span: tuple[float, float], heights: tuple[float, float], side: float
) -> None:
    """A gable, a hipped or a mansard roof over the front, with its slope over the side wall."""
    (left, right), (top, peak) = span, heights
    middle, width = (left + right) / 2, right - left
    ridges = (
        [(middle, peak)],
        [(left + 0.24 * width, peak + 4), (right - 0.24 * width, peak + 4)],
        [(left + 0.1 * width, (top + peak) / 2), (middle, peak), (right - 0.1 * width, (top + peak) / 2)],
    )
    ridge = ridges[style]
    if side:
        pen.fill([ridge[-1], (right, top), (right + side, top - 4), (ridge[-1][0] + side, ridge[-1][1] - 2)],
                 shade(colour, 0.7))  # fmt: skip
        if style == 2:
            pen.fill([ridge[1], ridge[2], (ridge[2][0] + side, ridge[2][1] - 3), (ridge[1][0] + side, peak - 2)],
                     shade(colour, 0.76))  # fmt: skip
    outline: Outline = np.array([(left, top), *ridge, (right, top)], float)
    pen.fill(outline, colour, edge=1.6)
    with pen.inside(outline) as inner:
        for y in np.arange(peak + 8, top - 2, 7):
            inner.stroke([(left, float(y)), (right, float(y))], 1.2, shade(colour, 0.82))


def _openings(
    pen: QuickPen, layout: int, door: Colour, span: tuple[float, float], top: float, palette: Palette, awning: bool
) -> None:
    """A door and windows in one of three layouts, under an awning where there is one."""
    left, right = span
    width, middle = right - left, (left + right) / 2
    at = (middle, left + 0.26 * width, right - 0.26 * width)[layout]
    others = ((left + 0.2 * width, right - 0.2 * width), (left + 0.7 * width,), (right - 0.7 * width,))[layout]
    pen.fill(rounded(at - 7.5, 65, at + 7.5, 90, 2), FRAME)
    pen.fill(rounded(at - 6, 67, at + 6, 90, 2), door)
    pen.fill(rounded(at + 2, 77, at + 4.5, 80, 1), GOLD)
    for x in others:
        size = 7 if layout == 0 else 10
        pen.fill(rounded(x - size, 63, x + size, 80, 1.5), FRAME, edge=1)
        pen.fill([(x - size + 2, 65), (x + size - 2, 65), (x + size - 2, 78), (x - size + 2, 78)], PANE)
        pen.stroke([(x, 64), (x, 79)], 1.8, FRAME)
    if not awning:
        return
    bottom = top + 14
    cloth = np.array([(left - 1, top + 3), (right + 1, top + 3), (right + 6, bottom), (left - 6, bottom)], float)
    pen.fill(cloth, palette.accessory, edge=1.4)
    light = WHITE if min(palette.accessory) < 200 else shade(palette.accessory, 0.8)
    with pen.inside(cloth) as inner:
        for x in np.arange(left - 2, right + 8, 12):
            inner.fill([(x, top), (x + 5, top), (x + 5, bottom + 2), (x, bottom + 2)], light)


def _chimney(pen: QuickPen, x: float, peak: float, top: float, colour: Colour, named: bool) -> None:
    rise = 9 if named else 3
    pen.fill([(x - 6, peak - rise), (x + 6, peak - rise), (x + 6, top), (x - 6, top)], colour, edge=1.4)
    pen.fill(rounded(x - 8, peak - rise - 4, x + 8, peak - rise + 1, 1), shade(colour, 0.8), edge=1)


def _fence(pen: QuickPen, span: tuple[float, float], colour: Colour) -> None:
    left, right = span
    for y in (82, 90):
        pen.fill([(left, y - 1.6), (right, y - 1.6), (right, y + 1.6), (left, y + 1.6)], shade(colour, 0.8))
    for x in np.arange(left + 3, right, 9):
        pen.fill([(x - 2.6, 78), (x, 74), (x + 2.6, 78), (x + 2.6, 95), (x - 2.6, 95)], colour, edge=0.8)
