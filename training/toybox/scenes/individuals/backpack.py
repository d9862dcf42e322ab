"""Backpacks, seen from the front or half from the side."""

import numpy as np

from training.toybox.sample_concepts.pen import GOLD, Pose, curve, oval, rounded, shade
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.accessories import EMBLEMS
from training.toybox.scenes.individuals.pen import Build, Palette, QuickPen, palette_of
from training.toybox.scenes.individuals.surfaces import draw_surface, surface_of
from training.toybox.scenes.individuals.traits import Individual

STEEL = (176, 184, 194)


def draw_backpack(pen: QuickPen, individual: Individual, build: Build, pose: Pose) -> None:
    """The backpack; in the second stance its side and a shoulder strap are seen too."""
    palette = palette_of(individual, build)
    half, top, radius = build.between(26, 33), build.between(14, 22), build.between(10, 22)
    flap, pockets, metal = build.between(0.36, 0.5), build.chance(0.6), (GOLD, STEEL)[build.index(2)]
    strap = shade(palette.main, 0.62) if build.chance(0.6) else (110, 74, 46)
    surface = surface_of(individual.pattern, palette.second, build)
    body, height = rounded(50 - half, top, 50 + half, 92, radius), 92 - top
    side = 9 + 3 * pose.swing if pose.second_stance else 0
    _straps(pen, half, top, strap, pose.swing)
    if side:
        pen.fill(body + np.array([side, -2]), shade(palette.main, 0.66), edge=1)
    if pockets:
        for x in (-1, 1):
            pen.fill(rounded(50 + x * half - 7, 62, 50 + x * half + 7, 86, 4), shade(palette.main, 0.8), edge=1)
    pen.fill(body, palette.main, edge=1.4)
    draw_surface(pen, surface, body, 4 * pose.swing)
    pen.stroke([*body, body[0]], 1.6, shade(palette.main, 0.7))
    seam = top + flap * height
    pen.stroke(curve([(50 - half, seam - 5), (50, seam + 2), (50 + half, seam - 5)]), 2.4, shade(palette.main, 0.55))
    pen.fill(rounded(46.5, seam - 5, 53.5, seam + 8, 1.5), strap)
    pen.fill(rounded(47, seam + 1, 53, seam + 6, 1), metal)
    _front(pen, individual, palette, half, seam)
    if individual.accessory in EMBLEMS:
        y = (seam + 98) / 2 if individual.accessory != "bow" else top + 6
        EMBLEMS[individual.accessory](pen.at(50, y, angle=pose.head / 2, width=1.1, height=1.1), palette.accessory)


def _straps(pen: QuickPen, half: float, top: float, colour: Colour, swing: float) -> None:
    loop = oval(50, top - 1, 20, 18)
    pen.stroke(np.concatenate([loop, loop[:3]]), 5, colour)
    for x in (-1, 1):
        reach = 50 + x * (half + 3)
        line = curve([(reach - x * 6, top + 14), (reach + x * (3 + 2 * swing), 56), (reach - x * 5, 86)])
        pen.stroke(line, 6.5, colour)


def _front(pen: QuickPen, individual: Individual, palette: Palette, half: float, seam: float) -> None:
    """The pocket below the flap, in the accessory's colour if it is the accessory."""
    named = individual.accessory == "pocket"
    colour = palette.accessory if named else palette.main
    pocket = rounded(50 - half * 0.66, seam + 11, 50 + half * 0.66, 87, 6)
    if named:
        pen.fill(pocket, colour)
    pen.stroke([*pocket, pocket[0]], 2, shade(colour, 0.55))
    if individual.accessory is None or named:
        pen.stroke([(50 - half * 0.48, seam + 18), (50 + half * 0.48, seam + 18)], 2.2, shade(colour, 0.55))
