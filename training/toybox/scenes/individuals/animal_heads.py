"""The heads of the four-legged animals, each around the origin, some 46 units wide."""

from collections.abc import Callable

from training.toybox.sample_concepts.pen import BLACK, WHITE, Outline, curve, oval, shade, smooth
from training.toybox.scenes.individuals.coat import Coat, draw_hide
from training.toybox.scenes.individuals.pen import QuickPen

INNER_EAR, TONGUE, DARK = (240, 150, 160), (236, 96, 110), (44, 38, 42)

_ROUND = smooth([(-22, 2), (-17, -13), (0, -18), (17, -13), (22, 2), (14, 15), (0, 18), (-14, 15)])
_LONG = smooth([(-19, -3), (-13, -16), (0, -19), (13, -16), (19, -3), (15, 12), (0, 18), (-15, 12)])
_WIDE = smooth([(-24, 1), (-19, -14), (0, -19), (19, -14), (24, 1), (16, 16), (0, 19), (-16, 16)])
_POINTED = smooth([(-25, 5), (-17, -11), (0, -15), (17, -11), (25, 5), (11, 13), (0, 21), (-11, 13)])


def _face(pen: QuickPen, coat: Coat, outline: Outline) -> None:
    draw_hide(pen, coat, outline, coat.fur, edge=1.2)
    if coat.face_marks:
        with pen.inside(outline) as inner:
            for mark in coat.face_marks:
                inner.fill(oval(*mark), coat.mark)


def _eyes(pen: QuickPen, coat: Coat) -> None:
    for side in (-1, 1):
        eye = pen.at(side * coat.eye_apart, coat.eye_height, width=coat.eye, height=coat.eye)
        eye.fill(oval(0, 0, 10, 11.5), DARK)
        eye.fill(oval(0, 0, 8.4, 10), coat.iris)
        eye.fill(oval(0, 0, 5.6, 8), BLACK)
        eye.fill(oval(-1.4, -2.2, 3, 3.2), WHITE)


def _mouth(pen: QuickPen, y: float) -> None:
    for side in (-1, 1):
        pen.stroke(curve([(0, y - 3), (side * 2, y), (side * 5.5, y - 1)]), 1.4, BLACK)


def _pointed_ears(pen: QuickPen, coat: Coat, swing: float, height: float, tip: bool) -> None:
    for side in (-1, 1):
        ear = pen.at(side * 12, -11, angle=side * coat.ear_turn + 5 * swing, width=side, height=height * coat.ear)
        ear.fill(smooth([(-9, 2), (-5, -6), (6, -19), (9, -17), (10, 4), (6, 8)]), coat.ears, edge=1)
        if tip:
            ear.fill(smooth([(-1, -11), (6, -19), (9, -17), (9.5, -8)]), DARK)
        ear.fill(smooth([(-3, 1), (4, -11), (6, -9), (6, 4)]), INNER_EAR)


def _cat(pen: QuickPen, coat: Coat, swing: float) -> None:
    _pointed_ears(pen, coat, swing, 1, tip=False)
    _face(pen, coat, _ROUND)
    for side in (-1, 1):
        pen.fill(oval(side * 5, 8.5, 14 * coat.muzzle_size, 11 * coat.muzzle_size), coat.muzzle)
    _eyes(pen, coat)
    pen.fill(smooth([(-3.8, 3.2), (3.8, 3.2), (0, 7.8)]), coat.nose if coat.style else INNER_EAR)
    _mouth(pen, 11)
    for side in (-1, 1):
        for rise in (-2, 3):
            pen.stroke([(side * 14, 8 + rise / 2), (side * 27, 7 + rise * 2)], 1.1, shade(coat.muzzle, 0.6))


def _dog(pen: QuickPen, coat: Coat, swing: float) -> None:
    _face(pen, coat, _LONG)
    drop = smooth(
        (
            [(-4, 0), (3, -5), (10, 1), (14, 17), (10, 27), (3, 25), (0, 12)],
            [(-4, 0), (3, -5), (12, 0), (18, 9), (19, 18), (10, 14), (1, 10)],
            [(-4, 0), (3, -5), (11, 1), (16, 20), (13, 35), (4, 33), (-1, 14)],
        )[coat.style]
    )
    for side in (-1, 1):
        turn = -side * (4 + 7 * swing + coat.ear_turn / 3)
        ear = pen.at(side * 14, -13, angle=turn, width=side * coat.ear, height=coat.ear)
        draw_hide(ear, coat, drop, coat.ears, edge=1.2)
    if coat.open_mouth:
        pen.fill(oval(0, 18, 8, 13), TONGUE, edge=1)
    pen.fill(oval(0, 9, 25 * coat.muzzle_size, 17 * coat.muzzle_size), coat.muzzle)
    _eyes(pen, coat)
    pen.fill(smooth([(-6, 0.5), (0, -1), (6, 0.5), (3, 6.5), (-3, 6.5)]), DARK)
    _mouth(pen, 12)


def _rabbit(pen: QuickPen, coat: Coat, swing: float) -> None:
    for side in (-1, 1):
        turn = side * (6 + coat.ear_turn * 0.7) + 6 * swing
        ear = pen.at(side * 8, -13, angle=turn, width=side, height=0.5 + 0.5 * coat.ear)
        bent = coat.style == 2 and side == 1
        tip = [(13, -30), (22, -22), (19, -17), (9, -22)] if bent else [(-1, -34), (6, -35), (9, -24), (8, -12)]
        ear.fill(smooth([(-6, 2), (-7, -16), *tip, (7, 2)]), coat.ears, edge=1.2)
        ear.fill(smooth([(-2.5, 0), (-3.5, -16), (2, -27 if not bent else -22), (4, -14), (3, 0)]), INNER_EAR)
    _face(pen, coat, _ROUND)
    for side in (-1, 1):
        pen.fill(oval(side * 4.5, 8, 13 * coat.muzzle_size, 11 * coat.muzzle_size), coat.muzzle)
    pen.fill([(-3, 11), (3, 11), (2.6, 17), (-2.6, 17)], WHITE, edge=1)
    _eyes(pen, coat)
    pen.fill(smooth([(-3.2, 3.5), (3.2, 3.5), (0, 7)]), (236, 110, 135))
    _mouth(pen, 11)


def _bear(pen: QuickPen, coat: Coat, swing: float) -> None:
    for side in (-1, 1):
        ear = pen.at(side * 17, -14, angle=4 * swing)
        size = 13 + 6 * coat.ear
        draw_hide(ear, coat, oval(0, 0, size, size), coat.ears, edge=1.2)
        ear.fill(oval(0, 1, size * 0.5, size * 0.5), INNER_EAR if coat.style else shade(coat.ears, 0.65))
    _face(pen, coat, _WIDE)
    snout = coat.muzzle_size
    pen.fill(oval(0, 9, 22 * snout, 17 * snout), coat.muzzle, edge=0.8)
    _eyes(pen, coat)
    pen.fill(oval(0, 4.5, 10 * snout, 7 * snout), DARK)
    pen.stroke([(0, 7), (0, 11)], 1.4, BLACK)
    _mouth(pen, 13)


def _fox(pen: QuickPen, coat: Coat, swing: float) -> None:
    _pointed_ears(pen, coat, swing, 1.35, tip=True)
    _face(pen, coat, _POINTED)
    with pen.inside(_POINTED) as inner:
        for side in (-1, 1):
            inner.fill(smooth([(side * 3, 6), (side * 15, 1), (side * 27, 4), (side * 14, 20), (0, 24)]), coat.muzzle)
    _eyes(pen, coat)
    pen.fill(oval(0, 16.5, 7.5, 6), DARK)
    pen.stroke(curve([(-4, 20), (0, 21.5), (4, 20)]), 1.2, DARK)


HEADS: dict[str, Callable[[QuickPen, Coat, float], None]] = {
    "cat": _cat,
    "dog": _dog,
    "rabbit": _rabbit,
    "bear": _bear,
    "fox": _fox,
}
"""The function that draws the head of each kind: with a pen, a coat, and the pose's swing."""
