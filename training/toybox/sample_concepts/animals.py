"""The cats and dogs among the sample concepts: two builds of head, two stances, six coats."""

from collections.abc import Callable
from dataclasses import dataclass

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

PINK, TONGUE = (240, 150, 160), (236, 96, 110)


@dataclass(frozen=True)
class Coat:
    """The appearance of one animal.

    Parts without their own colour have the fur's. `body_mark` is the width and height of the marks on
    the body; `face_marks` are ovals (x, y, width, height, angle). `wear` draws on the neck, `headwear` on
    the head.
    """

    fur: Colour
    muzzle: Colour
    eyes: Colour
    chest: Colour | None = None
    paws: Colour | None = None
    ears: Colour | None = None
    tail_tip: Colour | None = None
    mark: Colour = WHITE
    body_mark: tuple[float, float] | None = None
    face_marks: tuple[tuple[float, float, float, float, float], ...] = ()
    wear: Callable[[Pen], None] | None = None
    headwear: Callable[[Pen], None] | None = None
    curly: bool = False


Head = Callable[[Pen, Coat, float], None]

STANDING = smooth([(26, 54), (34, 43), (60, 45), (82, 44), (90, 56), (86, 72), (60, 74), (34, 74)])
SITTING = smooth([(50, 38), (63, 50), (71, 72), (74, 90), (62, 96), (38, 96), (26, 90), (29, 72), (37, 50)])
CAT_FACE = smooth([(-23, 3), (-17, -12), (0, -17), (17, -12), (23, 3), (14, 15), (0, 18), (-14, 15)])
DOG_FACE = smooth([(-19, -3), (-13, -16), (0, -19), (13, -16), (19, -3), (15, 12), (0, 18), (-15, 12)])
STANDING_MARKS = ((50, 46, 6), (64, 46, 0), (78, 47, -8), (88, 61, 0))
SITTING_MARKS = ((29, 68, 75), (71, 68, -75), (27, 83, 80), (73, 83, -80))


def draw_animal(pen: Pen, coat: Coat, head: Head, pose: Pose) -> None:
    """The animal, facing left, in the first or second stance of the pose."""
    neck, top = ((36, 46), (34, 27)) if not pose.second_stance else ((50, 46), (50, 27))
    draw_body = _sitting if pose.second_stance else _standing
    draw_body(pen, coat, pose.swing)
    skull = pen.at(*top, angle=pose.head)
    head(skull, coat, pose.swing)
    if coat.wear:
        coat.wear(pen.at(*neck, angle=pose.head / 2))
    if coat.headwear:
        coat.headwear(skull)


def _standing(pen: Pen, coat: Coat, swing: float) -> None:
    _tail(pen.at(86, 52, angle=18 * swing), coat)
    far = shade(coat.fur, 0.8), shade(coat.paws or coat.fur, 0.8)
    for hip, step in ((44, -3), (74, 3)):
        _leg(pen, (hip, 64), (hip + step * swing, 90), *far)
    _trunk(pen, coat, STANDING, STANDING_MARKS, oval(31, 62, 22, 30, 8))
    for hip, step in ((35, 4), (82, -4)):
        _leg(pen, (hip, 64), (hip + step * swing, 93), coat.fur, coat.paws or coat.fur)


def _sitting(pen: Pen, coat: Coat, swing: float) -> None:
    _tail(pen.at(70, 88, angle=30 + 18 * swing), coat)
    _trunk(pen, coat, SITTING, SITTING_MARKS, oval(50, 64, 26, 34))
    paws = coat.paws or coat.fur
    for side in (-1, 1):
        pen.fill(oval(50 + side * 20, 94, 20, 9), shade(paws, 0.9))
        hip, foot = (50 + side * 7, 70), (50 + side * 8, 93)
        pen.stroke([hip, foot], 13, shade(coat.fur, 0.85))
        _leg(pen, hip, foot, coat.fur, paws)


def _trunk(
    pen: Pen, coat: Coat, outline: Outline, marks: tuple[tuple[float, float, float], ...], chest: Outline
) -> None:
    _hide(pen, coat, outline, coat.fur)
    with pen.inside(outline) as inner:
        inner.fill(chest, coat.chest or coat.fur)
        if coat.body_mark:
            for x, y, angle in marks:
                inner.fill(oval(x, y, *coat.body_mark, angle), coat.mark)


def _leg(pen: Pen, hip: tuple[float, float], foot: tuple[float, float], fur: Colour, paw: Colour) -> None:
    pen.stroke([hip, foot], 11, fur)
    pen.stroke([(foot[0] - 2, foot[1]), (foot[0] + 0.5, foot[1])], 11, paw)
    pen.stroke([(foot[0] * 0.8 + hip[0] * 0.2, foot[1] * 0.8 + hip[1] * 0.2), foot], 11, paw)


def _tail(pen: Pen, coat: Coat) -> None:
    if coat.curly:
        pen.stroke([(0, 0), (8, -14)], 5, coat.fur)
        _hide(pen, coat, oval(9, -18, 12, 12), coat.fur)
        return
    line = curve([(-2, 2), (9, -4), (12, -18), (9, -29), (14, -36)])
    pen.stroke(line, 8, coat.fur)
    pen.stroke(line[-20:], 8, coat.tail_tip or coat.fur)


def _hide(pen: Pen, coat: Coat, outline: Outline, colour: Colour, edge: float = 0) -> None:
    """The outline filled; on a curly animal with bumps of wool all around."""
    if coat.curly:
        for size, tone in ((10.5, shade(colour, 0.82)), (9, colour)):
            for x, y in outline[::9]:
                pen.fill(oval(x, y, size, size), tone)
    pen.fill(outline, colour, 0 if coat.curly else edge)


def _face(pen: Pen, coat: Coat, outline: Outline) -> None:
    _hide(pen, coat, outline, coat.fur, edge=1.2)
    with pen.inside(outline) as inner:
        for mark in coat.face_marks:
            inner.fill(oval(*mark), coat.mark)


def _eyes(pen: Pen, coat: Coat, apart: float, y: float) -> None:
    for side in (-1, 1):
        pen.fill(oval(side * apart, y, 9, 10.5), coat.eyes)
        pen.fill(oval(side * apart, y, 6, 9), BLACK)
        pen.fill(oval(side * apart - 1.4, y - 2, 2.6, 2.8), WHITE)


def _mouth(pen: Pen, y: float) -> None:
    for side in (-1, 1):
        pen.stroke(curve([(0, y - 3), (side * 2, y), (side * 5.5, y - 1)]), 1.2, BLACK)


def cat_head(pen: Pen, coat: Coat, swing: float) -> None:
    """Pointed ears, a broad face, a small pink nose and whiskers."""
    for side in (-1, 1):
        ear = pen.at(side * 12, -12, angle=6 * swing, width=side)
        ear.fill(smooth([(-9, 2), (-5, -6), (6, -19), (9, -17), (10, 4), (6, 8)]), coat.fur)
        ear.fill(smooth([(-3, 1), (5, -12), (6.5, -10), (6, 4)]), PINK)
    _face(pen, coat, CAT_FACE)
    for side in (-1, 1):
        pen.fill(oval(side * 5, 8.5, 14, 11), coat.muzzle)
    _eyes(pen, coat, 10, -3)
    pen.fill(smooth([(-3.5, 3.5), (3.5, 3.5), (0, 7.5)]), PINK)
    _mouth(pen, 11)
    for side in (-1, 1):
        for rise in (-2, 3):
            pen.stroke([(side * 14, 8 + rise / 2), (side * 25, 7 + rise * 2)], 1, shade(coat.muzzle, 0.7))


def dog_head(pen: Pen, coat: Coat, swing: float) -> None:
    """Floppy ears, a long muzzle with a big black nose, and the tongue out."""
    ears = [pen.at(side * 15, -13, angle=-side * (4 + 7 * swing), width=side) for side in (-1, 1)]
    outline = smooth([(-4, 0), (3, -5), (10, 1), (14, 17), (10, 27), (3, 25), (0, 12)])
    _face(pen, coat, DOG_FACE)
    for ear in ears:
        _hide(ear, coat, outline, coat.ears or coat.fur, edge=1.2)
    pen.fill(oval(0, 18, 8, 12), TONGUE)
    pen.fill(oval(0, 9, 25, 17), coat.muzzle)
    _eyes(pen, coat, 9, -5)
    pen.fill(smooth([(-5.5, 1), (0, -0.5), (5.5, 1), (3, 6), (-3, 6)]), BLACK)
    _mouth(pen, 11.5)


def _bow(pen: Pen, colour: Colour) -> None:
    for side in (-1, 1):
        pen.fill(smooth([(0, 0), (side * 12, -8), (side * 15, 0), (side * 12, 8)]), colour, edge=1)
    pen.fill(oval(0, 0, 7, 8), shade(colour, 0.8))


def _bow_tie(pen: Pen) -> None:
    _bow(pen.at(0, 4), (222, 32, 42))


def _collar_with_bell(pen: Pen) -> None:
    pen.stroke(curve([(-14, -2), (0, 4), (14, -2)]), 6, (30, 150, 70))
    pen.fill(oval(0, 10, 12, 12), GOLD, edge=1.2)
    pen.stroke([(0, 11), (0, 15)], 1.8, (120, 80, 20))


def _scarf(pen: Pen) -> None:
    yellow = (252, 208, 38)
    pen.fill(rounded(4, 2, 14, 27, 2), shade(yellow, 0.88), edge=1)
    pen.stroke([(5, 21), (13, 21)], 2.5, (235, 130, 30))
    pen.stroke(curve([(-15, -2), (0, 4), (15, -2)]), 10, yellow)


def _bandana(pen: Pen) -> None:
    blue = (36, 104, 226)
    pen.fill(smooth([(-15, -2), (0, 1), (15, -2), (9, 10), (0, 23), (-9, 10)]), blue, edge=1)
    for x, y in ((-7, 5), (7, 5), (0, 14)):
        pen.fill(oval(x, y, 4.5, 4.5), WHITE)


def _cap(pen: Pen) -> None:
    yellow, pen = (255, 202, 20), pen.at(0, -3)
    pen.fill(smooth([(-17, -11), (-14, -24), (0, -30), (14, -24), (17, -11), (0, -13)]), yellow, edge=1)
    pen.fill(smooth([(-16, -12), (0, -15), (6, -12), (-12, -7), (-29, -5), (-31, -9)]), shade(yellow, 0.8))
    pen.fill(oval(0, -29, 6, 4), shade(yellow, 0.8))


def _hair_bow(pen: Pen) -> None:
    _bow(pen.at(0, -21, width=1.15, height=1.15), (246, 84, 160))


_GINGER, _SMOKE, _COCOA, _CREAM = (246, 146, 40), (112, 136, 172), (112, 66, 42), (250, 228, 188)
_RUST, _TAN = (160, 78, 26), (226, 172, 112)

CATS = {
    "milo": Coat(
        BLACK, muzzle=WHITE, eyes=(120, 215, 90), chest=WHITE, paws=WHITE, tail_tip=WHITE,
        face_marks=((0, 4, 9, 34, 0), (0, 16, 30, 18, 0)), wear=_bow_tie,
    ),
    "saffron": Coat(
        _GINGER, muzzle=(255, 236, 205), eyes=(190, 225, 90), tail_tip=_RUST, mark=_RUST, body_mark=(6.5, 28),
        face_marks=((0, -14, 4.5, 15, 0), (-8, -13, 4.5, 13, -16), (8, -13, 4.5, 13, 16)),
        wear=_collar_with_bell,
    ),
    "misty": Coat(
        _SMOKE, muzzle=WHITE, eyes=(255, 214, 70), tail_tip=WHITE, body_mark=(13.5, 14),
        face_marks=((11, -12, 13, 10, 0),), wear=_scarf,
    ),
}  # fmt: skip
DOGS = {
    "rex": Coat(
        WHITE, muzzle=WHITE, eyes=(150, 96, 50), ears=BLACK, tail_tip=BLACK, mark=BLACK, body_mark=(28, 24),
        face_marks=((10, -6, 21, 22, 0),), headwear=_cap,
    ),
    "bruno": Coat(
        _COCOA, muzzle=_TAN, eyes=(225, 170, 80), paws=_TAN, ears=shade(_COCOA, 0.65), tail_tip=_TAN,
        mark=_TAN, face_marks=((-9, -12, 8, 5, 0), (9, -12, 8, 5, 0)), wear=_bandana,
    ),
    "biscuit": Coat(
        _CREAM, muzzle=(255, 246, 226), eyes=(150, 100, 60), ears=(238, 192, 128),
        headwear=_hair_bow, curly=True,
    ),
}  # fmt: skip
