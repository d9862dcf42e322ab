"""Cars, seen from the side."""

import numpy as np

from training.toybox.sample_concepts.pen import BLACK, GOLD, WHITE, Outline, Pose, curve, oval, rounded, shade, smooth
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.accessories import EMBLEMS
from training.toybox.scenes.individuals.pen import Build, QuickPen, palette_of
from training.toybox.scenes.individuals.surfaces import draw_surface, surface_of
from training.toybox.scenes.individuals.traits import Individual

STEEL, GLASS, LAMP, TAIL_LAMP = (186, 194, 204), (178, 222, 246), (255, 236, 150), (226, 50, 50)


def draw_car(pen: QuickPen, individual: Individual, build: Build, pose: Pose) -> None:
    """The car, facing left; its wheels turn with the swing, and in the second stance it rears up a little."""
    palette = palette_of(individual, build)
    length, hood = build.between(80, 96), build.between(44, 52)
    front, rear = 50 - length / 2, 50 + length / 2
    begin, end = front + build.between(0.12, 0.3) * length, rear - build.between(0.02, 0.2) * length
    roof, wheel = hood - build.between(17, 25), build.between(20, 26)
    lean_front, lean_rear = build.between(6, 14), build.between(3, 12)
    surface = surface_of(individual.pattern, palette.second, build)
    rim, doors = build.index(3), 1 + build.index(2)
    frame = pen.at(rear, 74, angle=5 + 2 * pose.swing if pose.second_stance else pose.swing).at(-rear, -74)
    left, right = begin + lean_front, end - lean_rear
    edge = [(left, roof + 2), (left + 4, roof), (right - 4, roof), (right, roof + 2)]
    cabin = [(begin, hood + 2), *edge, (end, hood + 2)]
    _roof_load(frame, individual, palette.accessory, (left, right), roof, pose.swing)
    frame.fill(cabin, palette.main, edge=1.6)
    _windows(frame, cabin, roof, hood, doors)
    body = smooth([(front, 60), (front + 5, hood + 3), (begin, hood), (50, hood - 0.5), (end, hood),
                   (rear - 3, hood + 3), (rear, 62), (rear - 2, 74), (50, 75), (front + 2, 74)])  # fmt: skip
    frame.fill(body, palette.main)
    draw_surface(frame, surface, body, 3 * pose.swing)
    frame.stroke([*body, body[0]], 1.6, shade(palette.main, 0.7))
    middle = (begin + end) / 2
    _fittings(frame, palette.main, (front, middle, rear), hood)
    if individual.accessory in EMBLEMS:
        EMBLEMS[individual.accessory](frame.at(middle, (hood + 76) / 2, width=0.92, height=0.92), palette.accessory)
    for at in (0.21, 0.79):
        _wheel(pen.at(front + at * length, 75, angle=90 * pose.swing), wheel, rim)


def _fittings(pen: QuickPen, colour: Colour, places: tuple[float, float, float], hood: float) -> None:
    """The door's seam and handle, the lamps and the bumpers."""
    front, middle, rear = places
    pen.stroke([(middle, hood + 2), (middle, 71)], 1.4, shade(colour, 0.6))
    pen.stroke([(middle + 4, hood + 7), (middle + 9, hood + 7)], 2.2, shade(colour, 0.5))
    pen.fill(oval(front + 4, 58, 8, 10), LAMP, edge=1)
    pen.fill(rounded(rear - 5, 54, rear, 62, 1.5), TAIL_LAMP)
    for x in (front - 2, rear - 12):
        pen.fill(rounded(x, 69, x + 14, 75, 2.5), STEEL, edge=1)


def _windows(pen: QuickPen, cabin: list[tuple[float, float]], roof: float, hood: float, doors: int) -> None:
    centre = np.mean(cabin, axis=0)
    pane: Outline = (np.array(cabin) - centre) * (0.84, 0.72) + centre + (0, 1)
    pen.fill(pane, GLASS)
    with pen.inside(pane) as inner:
        x = float(pane[:, 0].min()) + 8
        inner.stroke([(x, hood), (x + 10, roof)], 3, WHITE)
    for split in np.linspace(float(pane[:, 0].min()), float(pane[:, 0].max()), doors + 2)[1:-1]:
        pen.stroke([(float(split), roof + 3), (float(split), hood)], 2.4, (70, 74, 86))


def _wheel(pen: QuickPen, size: float, rim: int) -> None:
    pen.fill(oval(0, 0, size, size), BLACK)
    pen.fill(oval(0, 0, size * 0.56, size * 0.56), STEEL, edge=1)
    if rim == 0:
        pen.fill(oval(0, 0, size * 0.2, size * 0.2), BLACK)
        return
    spokes = 3 if rim == 1 else 2
    for turn in range(spokes):
        spoke = pen.at(0, 0, angle=180 * turn / spokes)
        spoke.stroke([(-size * 0.22, 0), (size * 0.22, 0)], 2, (92, 100, 114))


def _roof_load(
    pen: QuickPen, individual: Individual, colour: Colour, span: tuple[float, float], roof: float, swing: float
) -> None:
    """A suitcase, a surfboard or a flag, standing on the roof."""
    left, right = span
    middle = (left + right) / 2
    if individual.accessory == "suitcase":
        half = min(17, (right - left) / 2)
        grip = [(middle - 5, roof - 15), (middle - 5, roof - 19), (middle + 5, roof - 19), (middle + 5, roof - 15)]
        pen.stroke(grip, 2.6, (80, 60, 50))
        pen.fill(rounded(middle - half, roof - 16, middle + half, roof + 1, 2.5), colour, edge=1.4)
        for x in (-0.55, 0.55):
            pen.stroke([(middle + x * half, roof - 15), (middle + x * half, roof)], 2.6, shade(colour, 0.6))
    elif individual.accessory == "surfboard":
        for x in (left + 5, right - 5):
            pen.stroke([(x, roof - 4), (x, roof)], 2.6, (70, 74, 86))
        board = smooth([(middle - 36, roof - 9), (middle - 20, roof - 11), (middle + 22, roof - 10),
                        (middle + 34, roof - 6), (middle + 20, roof - 2), (middle - 20, roof - 3)])  # fmt: skip
        pen.fill(board, colour, edge=1.4)
        pen.stroke(
            curve([(middle - 26, roof - 7), (middle, roof - 6.5), (middle + 26, roof - 6)]), 1.6, shade(colour, 0.6)
        )
    elif individual.accessory == "flag":
        draw_flag(pen.at(right - 4, roof + 2), colour, swing)


def draw_flag(pen: QuickPen, colour: Colour, swing: float) -> None:
    """A flag on a pole of 30 units, which stands on the origin."""
    pen.stroke([(0, 0), (0, -30)], 2.4, (120, 96, 70))
    pen.fill(oval(0, -31, 5, 5), GOLD)
    wave = 2.5 * swing
    upper, lower = [(10, -31 + wave), (22, -28 - wave)], [(22, -15 - wave), (10, -17 + wave)]
    pen.fill(smooth([(0.5, -29), *upper, *lower, (0.5, -14)]), colour, edge=1.2)
