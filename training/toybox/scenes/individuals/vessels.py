"""Vases and teapots: turned bodies with a pattern around them."""

import numpy as np

from training.toybox.sample_concepts.pen import BLACK, GOLD, WHITE, Outline, Pose, curve, oval, rounded, shade, smooth
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.accessories import EMBLEMS, draw_bow
from training.toybox.scenes.individuals.pen import Build, QuickPen, palette_of
from training.toybox.scenes.individuals.surfaces import draw_surface, surface_of
from training.toybox.scenes.individuals.traits import Individual

LEAF = (60, 150, 60)


def _lathe(profile: "Profile") -> Outline:
    """The outline of a turned body from its (radius, y) profile, top to bottom, around x = 50."""
    right = curve(profile)
    return np.concatenate([right * (1, 1) + (50, 0), right[::-1] * (-1, 1) + (50, 0)])


def _gloss(pen: QuickPen, body: Outline, swing: float) -> None:
    """A shaded right side and a highlight, which the swing moves."""
    right = body[: len(body) // 2]
    (left, top), (_, bottom) = body.min(0), body.max(0)
    with pen.inside(body, opacity=0.2) as inner:
        inner.fill(np.concatenate([right, right[::-1] - (9 - 3 * swing, 0)]), BLACK)
    x, y = left + (0.3 + 0.06 * swing) * (100 - 2 * left), top + 0.5 * (bottom - top)
    with pen.inside(body, opacity=0.45) as inner:
        inner.stroke(curve([(x + 1, y - 8), (x - 1, y), (x + 2, y + 10)]), 3.6, WHITE)


Profile = list[tuple[float, float]]
"""(radius, y), top to bottom."""


def _profile(build: Build) -> tuple[Profile, float, float]:
    """The profile of a vase of one of five shapes, its mouth's radius and its top."""
    shape, top, foot = build.index(5), build.between(4, 12), build.between(0.55, 0.8)
    if shape == 0:  # a bottle with a long neck
        neck, belly, mid = build.between(7, 10), build.between(27, 36), build.between(64, 72)
        upper: Profile = [(neck + 4, top), (neck, top + 10), (neck, mid - 32), (belly * 0.7, mid - 16)]
        return [*upper, (belly, mid), (belly * 0.88, mid + 16), (belly * foot, 95)], neck + 5, top
    if shape == 1:  # a round jar
        neck, belly, top = build.between(13, 19), build.between(36, 43), top + 14
        upper = [(neck + 4, top), (neck, top + 8), (belly * 0.8, top + 20)]
        return [*upper, (belly, 60), (belly * 0.8, 82), (belly * foot * 0.8, 94)], neck + 5, top
    if shape == 2:  # slender, with a wide mouth
        mouth, belly, mid = build.between(15, 20), build.between(17, 24), build.between(38, 58)
        upper = [(mouth, top), (mouth * 0.6, top + 11), (belly * 0.75, (top + mid) / 2 + 6)]
        return [*upper, (belly, mid), (belly * 0.75, mid + 20), (belly * 0.7, 98)], mouth, top
    if shape == 3:  # broad shoulders
        neck, belly, top = build.between(9, 14), build.between(27, 35), top + 4
        upper = [(neck + 3, top), (neck, top + 8), (belly * 0.9, top + 20)]
        return [*upper, (belly, top + 34), (belly * 0.7, 74), (belly * foot * 0.8, 96)], neck + 4, top
    mouth, waist, top = build.between(22, 30), build.between(13, 19), top + 10  # a flared beaker
    return [(mouth, top), (mouth * 0.78, top + 15), (waist + 2, 56), (waist, 74), (waist + 9, 95)], mouth, top


def draw_vase(pen: QuickPen, individual: Individual, build: Build, pose: Pose) -> None:
    """The vase, seen from the side or, in the second stance, from above; the swing turns it."""
    palette = palette_of(individual, build)
    profile, mouth, top = _profile(build)
    body, sag = _lathe(profile), 7 if pose.second_stance else 2
    surface = surface_of(individual.pattern, palette.second, build)
    neck = min(radius for radius, y in profile if y < top + 40)
    rim = palette.second if build.chance(0.3) else shade(palette.main, 0.75)
    if individual.accessory == "handles":
        _handles(pen, body, top, build, palette.accessory)
    height = 13 if pose.second_stance else 7
    if individual.accessory == "flowers":
        _flowers(pen, top, mouth, pose.swing, build, palette.accessory)
    pen.fill(body, palette.main)
    draw_surface(pen, surface, body, 9 * pose.swing, sag)
    _gloss(pen, body, pose.swing)
    pen.fill(oval(50, top, 2 * mouth, height), rim)
    if individual.accessory == "lid":
        _lid(pen, 50, top, mouth, height, palette.accessory)
        return
    pen.fill(oval(50, top, 2 * mouth - 6, height - 3.5), (38, 32, 36))
    if individual.accessory == "flowers":
        for x in (-0.4, 0, 0.4):
            pen.stroke([(50 + x * mouth, top + 1), (50 + x * mouth * 1.3, top - 8)], 3, LEAF)
    if individual.accessory == "bow":
        at = top + 12
        pen.stroke(curve([(50 - neck - 2, at - 1), (50, at + sag), (50 + neck + 2, at - 1)]), 5, palette.accessory)
        draw_bow(pen.at(50, at + sag), palette.accessory)


def _handles(pen: QuickPen, body: Outline, top: float, build: Build, colour: Colour) -> None:
    """Two rings whose inner halves lie behind the body, where it is some way below its top."""
    y, size = top + build.between(16, 22), build.between(20, 28)
    row = body[: len(body) // 2]
    reach = float(row[np.abs(row[:, 1] - y).argmin(), 0]) - 50
    for side in (-1, 1):
        ring = oval(50 + side * (reach + 4), y, size * 0.9, size * build.between(1, 1.1))
        pen.stroke(np.concatenate([ring, ring[:3]]), 6, colour)


def _flowers(pen: QuickPen, top: float, mouth: float, swing: float, build: Build, colour: Colour) -> None:
    for x, length in ((-0.9, 17), (0.9, 18), (0, 25)):
        tip = 50 + x * max(mouth, 15) + 4 * swing + build.between(-2, 2), top - length + build.between(-2, 2)
        pen.stroke([(50 + x * mouth * 0.5, top + 2), tip], 3, LEAF)
        EMBLEMS["flower"](pen.at(*tip, width=0.82, height=0.82), colour)


def _lid(pen: QuickPen, x: float, y: float, radius: float, height: float, colour: Colour) -> None:
    outline = smooth([(x - radius - 1, y + 1), (x - radius * 0.6, y - 7), (x, y - 10), (x + radius * 0.6, y - 7),
                      (x + radius + 1, y + 1), (x, y + height / 2 + 1)])  # fmt: skip
    pen.fill(outline, colour, edge=1.2)
    pen.fill(oval(x, y - 13, 9, 9), colour, edge=1.2)


def draw_teapot(pen: QuickPen, individual: Individual, build: Build, pose: Pose) -> None:
    """The teapot with its spout to the left; in the second stance it is tipped to pour."""
    palette = palette_of(individual, build)
    radius, top, shape = build.between(27, 35), build.between(34, 40), build.index(3)
    surface = surface_of(individual.pattern, palette.second, build)
    trim = palette.second if build.chance(0.4) else shade(palette.main, 0.8)
    pot = pen.at(50, 60, angle=-16 - 8 * pose.swing if pose.second_stance else 3 * pose.swing).at(-50, -60)
    shoulder, hip = ((0.8, 0.9), (0.62, 1.0), (0.95, 0.72))[shape]
    body = _lathe([(14, top), (radius * shoulder, top + 10), (radius, 58), (radius * hip, 76), (radius * 0.6, 86)])
    ring = oval(50 + radius + 3, 57, build.between(22, 30), build.between(26, 34))
    pot.stroke(np.concatenate([ring, ring[:3]]), 7, trim)
    reach, lift = 50 - radius - build.between(15, 20), build.between(34, 42)
    spout = [(50 - radius + 8, 76), (50 - radius - 6, 66), (reach + 2, lift + 3), (reach - 5, lift - 2)]
    back = [(reach + 5, lift - 4), (reach + 11, lift + 6), (50 - radius + 2, 54), (50 - radius + 10, 50)]
    pot.fill(smooth(spout + back), palette.main, edge=1.4)
    pot.fill(rounded(50 - radius * 0.62, 83, 50 + radius * 0.62, 90, 3), trim)
    pot.fill(body, palette.main, edge=1)
    draw_surface(pot, surface, body, 8 * pose.swing, 4)
    _gloss(pot, body, pose.swing)
    lid = smooth([(34, top + 2), (38, top - 6), (50, top - 10), (62, top - 6), (66, top + 2), (50, top + 5)])
    pot.fill(lid, trim, edge=1.2)
    pot.fill(oval(50, top - 13, 9, 9), palette.second if individual.second_colour else GOLD, edge=1)
    if individual.accessory == "bow":
        draw_bow(pot.at(50, top - 12), palette.accessory)
    elif individual.accessory:
        EMBLEMS[individual.accessory](pot.at(50, 62, width=1.15, height=1.15), palette.accessory)
