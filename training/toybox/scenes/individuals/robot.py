"""Robots: four shapes of body, legs or wheels, faces of eyes or a visor."""

from dataclasses import dataclass

from training.toybox.sample_concepts.pen import BLACK, WHITE, Outline, Pose, curve, oval, rounded, shade, smooth
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.accessories import EMBLEMS, draw_bow, draw_headwear
from training.toybox.scenes.individuals.pen import Build, Palette, QuickPen, palette_of
from training.toybox.scenes.individuals.surfaces import Surface, draw_surface, surface_of
from training.toybox.scenes.individuals.traits import Individual

STEEL, IRON = (168, 178, 190), (92, 100, 114)


@dataclass(frozen=True)
class Shape:
    """A robot's measures: the trunk, where it joins the arms, and the head's middle and half width.

    `apart` says that the head stands on a neck and turns by itself, `deep` that the trunk's side is seen.
    """

    trunk: Outline
    shoulder: tuple[float, float]
    head: tuple[float, float]
    head_half: tuple[float, float]
    chest: float
    apart: bool
    deep: bool = False


def _shape(build: Build) -> Shape:
    kind = build.index(4)
    half, top = build.between(25, 33), build.between(16, 24)
    if kind == 0:  # a box
        return Shape(
            rounded(50 - half, top, 50 + half, 80, 5),
            (half - 2, 56),
            (50, top + 20),
            (half, 16),
            66,
            False,
            build.chance(0.5),
        )
    if kind == 1:  # a ball or an egg
        trunk = oval(50, (top + 82) / 2, 2 * half + 8, 82 - top)
        return Shape(trunk, (half, 50), (50, top + 24), (half - 5, 14), 66, False)
    if kind == 2:  # a head on a trunk of its own
        wide = half * build.between(0.72, 0.9)
        return Shape(rounded(50 - wide, 44, 50 + wide, 83, 5), (wide - 1, 52), (50, 24), (half * 0.8, 15), 65, True)
    wide = half * build.between(0.6, 0.72)  # a tall dome
    body = rounded(50 - wide - 4, 12, 50 + wide + 4, 84, min(wide, 18))
    return Shape(body, (wide + 2, 54), (50, 30), (wide + 1, 14), 64, False)


def draw_robot(pen: QuickPen, individual: Individual, build: Build, pose: Pose) -> None:
    """The robot seen from the front; in the second stance it waves."""
    palette, shape = palette_of(individual, build), _shape(build)
    surface = surface_of(individual.pattern, palette.second, build)
    limb = (STEEL, shade(palette.main, 0.7))[build.index(2)]
    wheels, feet, crest = build.chance(0.25), build.between(9, 14), build.index(4)
    _arms(pen, shape, pose, limb, build.between(13, 19))
    _base(pen, individual, palette, pose.swing, limb, wheels, feet)
    head = pen.at(*shape.head, angle=pose.head * (1 if shape.apart else 0.25))
    across, up = shape.head_half
    if not shape.apart:
        up = shape.head[1] - float(shape.trunk[:, 1].min())
    if individual.accessory == "antennae":
        for side in (-1, 1):
            head.stroke([(side * 9, -up + 2), (side * 16 + 3 * pose.swing, -up - 13)], 3.2, IRON)
            head.fill(oval(side * 16 + 3 * pose.swing, -up - 15, 11, 11), palette.accessory, edge=1)
    elif crest and individual.accessory != "top hat":
        _crest(head.at(0, -up), crest, pose.swing)
    _trunk(pen, shape, palette.main, surface, pose.swing)
    if shape.apart:
        head.stroke([(0, up - 2), (0, up + 5)], 11, IRON)
        head.fill(rounded(-across, -up, across, up, 5), palette.main, edge=1.6)
    _face(head, individual, palette, build, across, pose.swing)
    _worn(pen, head, individual, palette, shape, up)


def _trunk(pen: QuickPen, shape: Shape, colour: Colour, surface: Surface, swing: float) -> None:
    if shape.deep:
        left, top = shape.trunk.min(0)
        right, bottom = shape.trunk.max(0)
        side = [(left + 3, top + 2), (left + 11, top - 8), (right + 8, top - 8), (right + 8, bottom - 11)]
        pen.fill([*side, (right - 2, bottom - 2)], shade(colour, 0.66))
    pen.fill(shape.trunk, colour)
    draw_surface(pen, surface, shape.trunk, 3 * swing)
    pen.stroke([*shape.trunk, *shape.trunk[:1]], 1.6, shade(colour, 0.7))


def _crest(pen: QuickPen, style: int, swing: float) -> None:
    """An aerial, a cone or a lamp, in the colours of metal, on top of a head."""
    if style == 1:
        pen.stroke([(0, 2), (2 * swing, -9)], 3, IRON)
        pen.fill(oval(2 * swing, -11, 7, 7), STEEL, edge=1)
    elif style == 2:
        pen.fill(smooth([(-10, 3), (0, -12), (10, 3), (0, 5)]), STEEL, edge=1)
    else:
        pen.fill(oval(0, 0, 14, 15), (200, 206, 214), edge=1)
        pen.fill(rounded(-9, -1, 9, 4, 2), IRON)


def _arms(pen: QuickPen, shape: Shape, pose: Pose, colour: Colour, length: float) -> None:
    right = -145 - 18 * pose.swing if pose.second_stance else -26 - 18 * pose.swing
    for side, angle in ((1, right), (-1, 26 - 18 * pose.swing)):
        arm = pen.at(50 + side * shape.shoulder[0], shape.shoulder[1], angle=angle)
        arm.stroke([(0, 0), (0, length)], 7.5, colour)
        claw = oval(0, length + 5, 11, 11)
        arm.stroke(claw[26:], 4.5, IRON)
        arm.stroke(claw[:7], 4.5, IRON)


def _base(
    pen: QuickPen, individual: Individual, palette: Palette, swing: float, limb: Colour, wheels: bool, feet: float
) -> None:
    named = individual.accessory == "wheels"
    if named or wheels:
        for x in (-17, 17):
            wheel = pen.at(50 + x, 85, angle=70 * swing)
            wheel.fill(oval(0, 0, 25, 25), palette.accessory if named else BLACK, edge=1.6)
            wheel.fill(oval(0, 0, 13, 13), STEEL, edge=1)
            wheel.stroke([(-6, 0), (6, 0)], 2.5, IRON)
        return
    for x in (-feet, feet):
        pen.stroke([(50 + x, 78), (50 + x + 3 * swing, 91)], 9, limb)
        pen.fill(rounded(41 + x + 3 * swing, 88, 59 + x + 3 * swing, 97, 4), IRON)


def _face(head: QuickPen, individual: Individual, palette: Palette, build: Build, across: float, swing: float) -> None:
    """One eye, a visor, or two eyes with a mouth; on a plate of the main colour where a pattern would blur them."""
    smile, eye, white = build.between(-2, 4), build.between(11, 15), build.vary(WHITE, 4)
    apart = min(across * 0.5, build.between(8, 12))
    if individual.pattern != "plain":
        head.fill(rounded(-across * 0.78, -11, across * 0.78, 15.5, 6), palette.main, edge=1)
    dark = shade(palette.main, 0.45) if max(palette.main) > 90 else STEEL
    if individual.accessory == "one eye":
        head.fill(oval(0, -1, 27, 27), shade(palette.accessory, 0.55))
        head.fill(oval(0, -1, 22, 22), palette.accessory)
        head.fill(oval(3 * swing, -1, 11, 11), BLACK if max(palette.accessory) > 90 else WHITE)
        head.fill(oval(3 * swing - 3, -4, 4, 4), WHITE)
    elif individual.accessory == "visor":
        head.fill(rounded(-across * 0.84, -11, across * 0.84, 9, 8), (38, 32, 52))
        for side in (-1, 1):
            head.fill(
                rounded(side * apart - 4.5 + 2 * swing, -7, side * apart + 4.5 + 2 * swing, 5, 4), palette.accessory
            )
    else:
        for side in (-1, 1):
            head.fill(oval(side * apart, -2, eye, eye), white, edge=1.2)
            head.fill(oval(side * apart + 2 * swing, -2, eye * 0.5, eye * 0.5), BLACK)
    if individual.accessory != "one eye":
        head.stroke(curve([(-7, 11), (0, 11 + smile), (7, 11)]), 2.4, dark)


def _worn(pen: QuickPen, head: QuickPen, individual: Individual, palette: Palette, shape: Shape, up: float) -> None:
    colour, chest = palette.accessory, pen.at(50, shape.chest)
    if individual.accessory == "chest screen":
        chest.fill(rounded(-15, -9, 15, 11, 3), shade(colour, 0.55) if max(colour) > 90 else STEEL)
        chest.fill(rounded(-12.5, -6.5, 12.5, 8.5, 2), colour)
        line = [(-10, 2), (-4, 2), (-1, -4), (3, 5), (6, 1), (10, 1)]
        chest.stroke(line, 2, WHITE if min(colour) < 180 else IRON)
    elif individual.accessory == "heart":
        EMBLEMS["heart"](chest.at(0, 2, width=0.9, height=0.9), colour)
    elif individual.accessory == "bow tie":
        draw_bow(chest.at(0, -8 if shape.apart else 2), colour)
    elif individual.accessory == "top hat":
        draw_headwear(head, "top hat", colour, -up - 2, 10, 0)
