"""The vases and robots among the sample concepts."""

import numpy as np

from training.toybox.sample_concepts.pen import (
    BLACK,
    GOLD,
    WHITE,
    Outline,
    Pen,
    Pose,
    curve,
    oval,
    rounded,
    shade,
    smooth,
)
from training.toybox.scenes.backgrounds import Colour

STEEL, IRON = (168, 178, 190), (92, 100, 114)


def _lathe(profile: list[tuple[float, float]]) -> Outline:
    """The outline of a turned body from its (radius, y) profile, top to bottom, around x = 50."""
    right = curve(profile)
    return np.concatenate([right * (1, 1) + (50, 0), right[::-1] * (-1, 1) + (50, 0)])


def _ring(y: float, radius: float, sag: float) -> Outline:
    """The visible front of a horizontal ring around the body."""
    x = np.linspace(-1, 1, 24)
    return np.stack([50 + radius * x, y + sag * np.sqrt(1 - x**2)], 1)


def _gloss(pen: Pen, body: Outline, swing: float) -> None:
    """A shaded right side and a highlight, which the swing moves."""
    right = body[: len(body) // 2]
    with pen.inside(body, opacity=0.22) as inner:
        inner.fill(np.concatenate([right, right[::-1] - (9 - 3 * swing, 0)]), BLACK)
    with pen.inside(body, opacity=0.45) as inner:
        inner.stroke(curve([(36 + 4 * swing, 50), (34 + 4 * swing, 60), (37 + 4 * swing, 72)]), 4, WHITE)


def _mouth(pen: Pen, y: float, radius: float, above: bool, rim: Colour) -> None:
    """The opening: flat seen from the side, wide open seen from above."""
    height = 13 if above else 6
    pen.fill(oval(50, y, 2 * radius, height), rim)
    pen.fill(oval(50, y, 2 * radius - 5, height - 4), (38, 32, 36))


def draw_azura(pen: Pen, pose: Pose) -> None:
    """A teal vase with a long neck, a pear-shaped body and a broad white zigzag."""
    teal = (0, 158, 160)
    body = _lathe([(13, 6), (9, 16), (9, 32), (20, 46), (31, 64), (27, 84), (16, 95)])
    sag = 7 if pose.second_stance else 2
    pen.fill(body, teal)
    with pen.inside(body) as inner:
        x = np.arange(-48, 49, 12) + 9 * pose.swing
        zigzag = np.stack([50 + x, 64 + 7 * (-1.0) ** np.arange(len(x)) + sag * (1 - (x / 36) ** 2)], 1)
        inner.stroke(zigzag, 6, WHITE)
        inner.stroke(_ring(30, 12, sag / 2), 4.5, WHITE)
        inner.stroke(_ring(87, 30, sag), 4.5, WHITE)
    _gloss(pen, body, pose.swing)
    _mouth(pen, 7, 14, pose.second_stance, shade(teal, 0.75))


def draw_rosa(pen: Pen, pose: Pose) -> None:
    """A round pink vase with golden dots, a golden rim and two golden ring handles."""
    pink = (250, 120, 172)
    body = _lathe([(18, 18), (14, 26), (30, 36), (41, 58), (32, 82), (18, 92)])
    for side in (-1, 1):
        handle = oval(50 + side * 30, 31, 22, 22)
        pen.stroke(np.concatenate([handle, handle[:2]]), 5, GOLD)
    pen.fill(body, pink)
    with pen.inside(body) as inner:
        for row, (y, shift) in enumerate(((46, 0), (62, 11), (78, 0))):
            for x in range(-55, 56, 22):
                sag = (4 if pose.second_stance else 0) * (1 - (x / 55) ** 2)
                inner.fill(oval(50 + x + shift + 10 * pose.swing, y + sag, 11 - row % 2, 11), GOLD)
    _gloss(pen, body, pose.swing)
    pen.fill(rounded(31, 89, 69, 95, 3), GOLD)
    _mouth(pen, 18, 19, pose.second_stance, GOLD)


def draw_onyx(pen: Pen, pose: Pose) -> None:
    """A tall slender black vase with four orange rings."""
    coal, orange = (40, 40, 46), (255, 126, 20)
    body = _lathe([(19, 4), (11, 14), (13, 30), (20, 48), (19, 66), (13, 84), (17, 98)])
    sag = 8 if pose.second_stance else 3
    pen.fill(body, coal)
    with pen.inside(body) as inner:
        for y in (22, 42, 60, 78):
            inner.stroke(_ring(y, 24, sag), 7, orange)
    _gloss(pen, body, pose.swing)
    _mouth(pen, 4, 20, pose.second_stance, orange)


def _arm(pen: Pen, shoulder: tuple[float, float], angle: float, length: float, colour: Colour) -> None:
    """An arm that hangs down and turns around its shoulder, with a claw at its end."""
    arm = pen.at(*shoulder, angle=angle)
    arm.stroke([(0, 0), (0, length)], 7, colour)
    claw = oval(0, length + 5, 11, 11)
    arm.stroke(claw[26:], 4.5, IRON)
    arm.stroke(claw[:7], 4.5, IRON)


def _arms(pen: Pen, reach: float, y: float, length: float, pose: Pose, colour: Colour) -> None:
    right = -145 - 15 * pose.swing if pose.second_stance else -28 - 18 * pose.swing
    _arm(pen, (50 + reach, y), right, length, colour)
    _arm(pen, (50 - reach, y), 28 - 18 * pose.swing, length, colour)


def draw_gizmo(pen: Pen, pose: Pose) -> None:
    """A green cube on short legs whose one big eye looks around."""
    green = (70, 190, 70)
    _arms(pen, 31, 56, 17, pose, STEEL)
    for x in (38, 62):
        pen.stroke([(x, 76), (x + 3 * pose.swing, 90)], 9, STEEL)
        pen.fill(rounded(x - 9 + 3 * pose.swing, 87, x + 9 + 3 * pose.swing, 96, 4), IRON)
    cube = pen.at(50, 46, angle=pose.head / 2)
    cube.fill([(-31, -26), (-22, -36), (39, -36), (39, 24), (31, 32)], shade(green, 0.7))
    cube.fill(rounded(-33, -28, 32, 34, 5), green, edge=1.5)
    cube.fill(oval(0, -5, 36, 36), shade(green, 0.6))
    cube.fill(oval(0, -5, 30, 30), WHITE)
    cube.fill(oval(5 * pose.swing - 2, -4, 16, 16), BLACK)
    cube.fill(oval(5 * pose.swing - 5, -7, 5, 5), WHITE)
    cube.stroke(curve([(-13, 21), (0, 25), (13, 21)]), 4, shade(green, 0.45))


def draw_volta(pen: Pen, pose: Pose) -> None:
    """A tall yellow robot with two antennae and a blue screen on its chest."""
    yellow, blue = (252, 206, 36), (40, 120, 240)
    _arms(pen, 21, 50, 19, pose, STEEL)
    for x in (42, 58):
        pen.stroke([(x, 78), (x + 3 * pose.swing, 92)], 8, STEEL)
        pen.fill(rounded(x - 8 + 3 * pose.swing, 90, x + 7 + 3 * pose.swing, 98, 3), IRON)
    pen.stroke([(50, 36), (50, 44)], 10, IRON)
    pen.fill(rounded(29, 42, 71, 84, 5), yellow, edge=1.5)
    pen.fill(rounded(34, 47, 66, 70, 3), shade(blue, 0.6))
    pen.fill(rounded(36, 49, 64, 68, 2), blue)
    pen.stroke([(39, 60), (45, 60), (49, 53), (53, 64), (56, 59), (61, 59)], 2.6, (190, 240, 255))
    head = pen.at(50, 38, angle=pose.head)
    for side in (-1, 1):
        head.stroke([(side * 9, -20), (side * (15 + 2 * pose.swing), -33)], 3, IRON)
        head.fill(oval(side * (15 + 2 * pose.swing), -34, 9, 9), (230, 40, 40))
    head.fill(rounded(-20, -24, 20, 2, 5), yellow, edge=1.5)
    for side in (-1, 1):
        head.fill(oval(side * 9, -13, 11, 11), WHITE)
        head.fill(oval(side * 9 + 2 * pose.swing, -13, 6, 6), BLACK)
    head.stroke([(-8, -3), (8, -3)], 2.6, shade(yellow, 0.5))


def draw_orbo(pen: Pen, pose: Pose) -> None:
    """A round purple robot on two wheels, with a cyan visor for a face."""
    purple, cyan = (146, 64, 200), (90, 226, 246)
    _arms(pen, 33, 46, 15, pose, shade(purple, 0.7))
    ball = oval(50, 48, 76, 74)
    pen.fill(ball, purple)
    with pen.inside(ball) as inner:
        inner.fill(oval(50, 92, 70, 44), shade(purple, 0.72))
    face = pen.at(50, 38, angle=pose.head)
    face.fill(rounded(-27, -15, 27, 13, 13), (36, 26, 60))
    for side in (-1, 1):
        face.fill(rounded(side * 12 - 6 + 3 * pose.swing, -9, side * 12 + 6 + 3 * pose.swing, 7, 5), cyan)
    face.fill(smooth([(-10, -24), (0, -38), (10, -24), (0, -22)]), GOLD)
    for x in (28, 72):
        wheel = pen.at(x, 83, angle=60 * pose.swing)
        wheel.fill(oval(0, 0, 27, 27), BLACK)
        wheel.fill(oval(0, 0, 14, 14), STEEL)
        wheel.stroke([(-6, 0), (6, 0)], 2.5, IRON)


OBJECTS = {
    "azura": draw_azura,
    "rosa": draw_rosa,
    "onyx": draw_onyx,
    "gizmo": draw_gizmo,
    "volta": draw_volta,
    "orbo": draw_orbo,
}
