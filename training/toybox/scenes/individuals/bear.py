"""Bears: upright on their hind legs or seated, with round ears and a snout."""

import numpy as np

from training.toybox.sample_concepts.pen import Outline, Pose, curve, oval, shade, smooth
from training.toybox.scenes.individuals.accessories import NECKWEAR, draw_headwear, draw_neckwear
from training.toybox.scenes.individuals.animal_heads import HEADS
from training.toybox.scenes.individuals.coat import Coat, coat_of, draw_hide
from training.toybox.scenes.individuals.pen import Build, QuickPen
from training.toybox.scenes.individuals.traits import Individual


def draw_bear(pen: QuickPen, individual: Individual, build: Build, pose: Pose) -> None:
    """The bear seen from the front; in the second stance it sits and shows its soles."""
    coat = coat_of(individual, build)
    wide = 25 * coat.depth
    floor = 84 if pose.second_stance else 82
    trunk = smooth([(50, 40), (50 + wide * 0.72, 48), (50 + wide, 68), (50 + wide * 0.75, floor), (50, floor + 4),
                    (50 - wide * 0.75, floor), (50 - wide, 68), (50 - wide * 0.72, 48)])  # fmt: skip
    if not pose.second_stance:
        for side in (-1, 1):
            foot = 50 + side * wide * 0.55 + 2 * pose.swing
            pen.stroke([(50 + side * wide * 0.5, 78), (foot, 92)], 19 * coat.leg_width, coat.fur)
            pen.fill(oval(foot + side * 2, 96, 23 * coat.leg_width, 12), coat.paws, edge=1)
    draw_hide(pen, coat, trunk, coat.fur, edge=1.2)
    _belly(pen, coat, trunk, wide)
    if pose.second_stance:
        _soles(pen, coat, wide, pose.swing)
    for side in (-1, 1):
        lift = 34 - side * 22 * pose.swing if not pose.second_stance else 24 - side * 14 * pose.swing
        _arm(pen.at(50 + side * wide * 0.74, 52, angle=-side * lift), coat)
    skull = pen.at(50, 28, angle=pose.head, width=coat.face_width * 1.1, height=coat.face_height * 1.1)
    HEADS["bear"](skull, coat, pose.swing)
    if individual.accessory in NECKWEAR:
        draw_neckwear(pen.at(50, 47, angle=pose.head / 2, width=1.15), individual.accessory, coat.worn)
    elif individual.accessory:
        draw_headwear(skull, individual.accessory, coat.worn, -18, coat.eye_apart, coat.eye_height)


def _belly(pen: QuickPen, coat: Coat, trunk: Outline, wide: float) -> None:
    """The pattern on the trunk."""
    with pen.inside(trunk) as inner:
        if coat.pattern == "bib":
            inner.fill(oval(50, 67, wide * 1.4, 38), coat.mark)
        elif coat.pattern == "stripes":
            for y in np.linspace(56, 82, coat.stripes):
                inner.stroke(curve([(50 - wide, y - 3), (50, y + 3), (50 + wide, y - 3)]), coat.stripe - 1, coat.mark)
        for x, y, width, height, angle in coat.body_marks:
            inner.fill(oval(50 + x * wide, 63 + y * 22, width, height, angle), coat.mark)


def _soles(pen: QuickPen, coat: Coat, wide: float, swing: float) -> None:
    for side in (-1, 1):
        sole = pen.at(50 + side * (wide * 0.78 + 2), 86, angle=side * 12 + 6 * swing)
        draw_hide(sole, coat, oval(0, 0, 25 * coat.leg_width, 25), coat.paws, edge=1.2)
        sole.fill(oval(0, 3, 11, 9), shade(coat.paws, 0.72))
        for toe in (-6, 0, 6):
            sole.fill(oval(toe, -6 + abs(toe) / 4, 4.4, 4.4), shade(coat.paws, 0.72))


def _arm(pen: QuickPen, coat: Coat) -> None:
    length = 22 * coat.leg
    arm = smooth([(-6, -3), (6, -3), (8, length * 0.7), (5, length + 6), (-5, length + 6), (-8, length * 0.7)])
    draw_hide(pen, coat, arm, shade(coat.fur, 0.92), edge=1.2)
    if coat.pattern in ("socks", "patches"):
        with pen.inside(arm) as inner:
            inner.fill(oval(0, length + 5, 24, 22), coat.mark)
