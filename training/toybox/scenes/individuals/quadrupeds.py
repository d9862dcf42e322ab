"""Cats, dogs, rabbits and foxes: one body in two stances, in each kind's proportions."""

from dataclasses import dataclass

import numpy as np

from training.toybox.sample_concepts.pen import Outline, Pose, curve, oval, shade, smooth
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.accessories import NECKWEAR, draw_headwear, draw_neckwear
from training.toybox.scenes.individuals.animal_heads import HEADS
from training.toybox.scenes.individuals.coat import Coat, coat_of, draw_hide
from training.toybox.scenes.individuals.pen import Build, QuickPen
from training.toybox.scenes.individuals.traits import Individual


@dataclass(frozen=True)
class Frame:
    """A kind's usual proportions, each a share of a cat's; `head` scales the head."""

    length: float = 1
    depth: float = 1
    leg: float = 1
    leg_width: float = 1
    head: float = 1


FRAMES = {
    "cat": Frame(leg_width=0.92),
    "dog": Frame(depth=1.05, leg_width=1.08, head=1.05),
    "rabbit": Frame(length=0.78, depth=1.12, leg=0.6, leg_width=0.95),
    "fox": Frame(length=0.98, depth=0.82, leg=1.05, leg_width=0.8),
}
STANDING = smooth([(26, 54), (34, 43), (60, 45), (82, 44), (90, 56), (86, 72), (60, 74), (34, 74)])
SITTING = smooth([(50, 38), (63, 50), (71, 72), (74, 90), (62, 96), (38, 96), (26, 90), (29, 72), (37, 50)])


def draw_quadruped(pen: QuickPen, individual: Individual, build: Build, pose: Pose) -> None:
    """The animal, facing left, in the first or second stance of the pose."""
    coat, frame = coat_of(individual, build), FRAMES[individual.kind]
    if pose.second_stance:
        neck, top = (50, 46), (50, 27)
        _sitting(pen, individual.kind, coat, frame, pose.swing)
    else:
        neck, top = (36, 47), (34, 28)
        _standing(pen, individual.kind, coat, frame, pose.swing)
    skull = pen.at(*top, angle=pose.head, width=coat.face_width * frame.head, height=coat.face_height * frame.head)
    HEADS[individual.kind](skull, coat, pose.swing)
    if individual.accessory in NECKWEAR:
        draw_neckwear(pen.at(*neck, angle=pose.head / 2), individual.accessory, coat.worn)
    elif individual.accessory:
        draw_headwear(skull, individual.accessory, coat.worn, -18, coat.eye_apart, coat.eye_height)


def _standing(pen: QuickPen, kind: str, coat: Coat, frame: Frame, swing: float) -> None:
    length, depth = frame.length * coat.length, frame.depth * coat.depth
    outline = (STANDING - (30, 58)) * (length, depth) + (30, 58)
    rear, floor = 30 + 56 * length, 64 + 29 * frame.leg * coat.leg + 8 * (depth - 1)
    _tail(pen.at(rear, 54, angle=16 * swing), kind, coat)
    width = 11 * frame.leg_width * coat.leg_width
    far = shade(coat.fur, 0.8), shade(coat.paws, 0.8)
    for hip, step in ((44, -3), (rear - 12, 3)):
        _leg(pen, (hip, 64), (hip + step * swing, floor - 3), width, *far)
    draw_hide(pen, coat, outline, coat.fur)
    _draw_pattern(
        pen, coat, outline, oval(31, 62, 24, 32 * depth, 8), (oval(58, 60 + 15 * depth, 44 * length, 10),), False
    )
    for hip, step in ((35, 4), (rear - 5, -4)):
        _leg(pen, (hip, 64), (hip + step * swing, floor), width, coat.fur, coat.paws)


def _sitting(pen: QuickPen, kind: str, coat: Coat, frame: Frame, swing: float) -> None:
    plump = (0.5 + 0.5 * frame.depth) * coat.depth
    outline = (SITTING - (50, 0)) * (plump, 1) + (50, 0)
    _tail(pen.at(50 + 20 * plump, 88, angle=30 + 16 * swing), kind, coat)
    draw_hide(pen, coat, outline, coat.fur)
    chest = oval(50, 64, 28 * plump, 38)
    _draw_pattern(pen, coat, outline, chest, (), True)
    width, feet = 11 * (0.5 + 0.5 * frame.leg_width) * coat.leg_width, 94
    for side in (-1, 1):
        pen.fill(oval(50 + side * 20 * plump, feet, 20, 10), shade(coat.paws, 0.9))
        hip, foot = (50 + side * 7 * plump, 70), (50 + side * 8 * plump, 93)
        leg = coat.mark if coat.pattern == "bib" and coat.paws == coat.mark else coat.fur
        pen.stroke([hip, foot], width + 2, shade(leg, 0.8))
        _leg(pen, hip, foot, width, leg, coat.paws)


def _draw_pattern(
    pen: QuickPen, coat: Coat, outline: Outline, chest: Outline, belly: tuple[Outline, ...], sitting: bool
) -> None:
    """The pattern on the trunk."""
    if coat.pattern in ("plain", "curly", "socks"):
        return
    (left, top), (right, bottom) = outline.min(0), outline.max(0)
    middle, half = ((left + right) / 2, (top + bottom) / 2), ((right - left) / 2, (bottom - top) / 2)
    with pen.inside(outline) as inner:
        if coat.pattern == "bib":
            for part in (chest, *belly):
                inner.fill(part, coat.mark)
        elif coat.pattern == "stripes":
            for mark in _stripes(coat, left, right, top, bottom, sitting):
                inner.fill(mark, coat.mark)
        for x, y, width, height, angle in coat.body_marks:
            inner.fill(oval(middle[0] + x * half[0], middle[1] + y * half[1], width, height, angle), coat.mark)


def _stripes(coat: Coat, left: float, right: float, top: float, bottom: float, sitting: bool) -> list[Outline]:
    if not sitting:
        places = np.linspace(left + 0.34 * (right - left), right - 8, coat.stripes)
        return [oval(x, top + 3, coat.stripe, 34, 5) for x in places]
    places = np.linspace(top + 0.42 * (bottom - top), bottom - 10, max(2, coat.stripes - 2))
    return [oval(x, y, coat.stripe, 28, turn) for y in places for x, turn in ((left + 3, 75), (right - 3, -75))]


def _leg(
    pen: QuickPen, hip: tuple[float, float], foot: tuple[float, float], width: float, fur: Colour, paw: Colour
) -> None:
    pen.stroke([hip, foot], width, fur)
    if paw != fur:
        pen.stroke([(foot[0] * 0.7 + hip[0] * 0.3, foot[1] * 0.7 + hip[1] * 0.3), foot], width, paw)
    pen.stroke([(foot[0] - 2.5, foot[1]), (foot[0] + 0.5, foot[1])], width, paw)


def _tail(pen: QuickPen, kind: str, coat: Coat) -> None:
    if kind == "rabbit":
        draw_hide(pen, coat, oval(0, -2, 17, 16), coat.tail_tip, edge=1)
    elif kind == "fox":
        _brush(pen.at(0, 0, width=0.86, height=0.9 * coat.tail_length), coat)
    elif coat.pattern == "curly":
        pen.stroke([(0, 0), (8, -14)], 5, coat.fur)
        draw_hide(pen, coat, oval(9, -18, 12, 12), coat.tail_tip)
    else:
        scaled, bends = pen.at(0, 0, height=coat.tail_length), _CAT_TAILS if kind == "cat" else _DOG_TAILS
        width = (8.0, 7.0, 11.0)[coat.tail] if kind == "cat" else (8.0, 9.0, 7.0)[coat.tail]
        line = curve(bends[coat.tail])
        scaled.stroke(line, width, coat.fur)
        scaled.stroke(line[-20:], width, coat.tail_tip)
        if coat.pattern == "stripes" and kind == "cat":
            for at in (16, 26):
                scaled.stroke(line[at : at + 4], width, coat.mark)


def _brush(pen: QuickPen, coat: Coat) -> None:
    """A fox's bushy tail with a light tip."""
    outline = smooth([(-4, 2), (6, -2), (12, -14), (12, -30), (22, -42), (30, -28), (29, -10), (18, 6), (4, 8)])
    pen.fill(outline, coat.fur, edge=1.2)
    with pen.inside(outline) as inner:
        inner.fill(smooth([(6, -30), (14, -26), (20, -31), (26, -26), (36, -32), (22, -50)]), coat.muzzle)


_CAT_TAILS = (
    [(-2, 2), (9, -4), (12, -18), (9, -29), (14, -36)],
    [(-2, 2), (10, 0), (16, -14), (12, -30), (3, -33), (3, -26)],
    [(-2, 2), (8, -4), (11, -16), (12, -28), (13, -34)],
)
_DOG_TAILS = (
    [(-2, 2), (7, -4), (11, -15), (13, -24)],
    [(-2, 2), (8, -6), (10, -18), (3, -22), (0, -15)],
    [(-2, 2), (9, -2), (16, -12), (20, -24)],
)
