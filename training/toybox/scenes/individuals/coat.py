"""The appearance of a four-legged animal: its coat, its proportions and its marks."""

from dataclasses import dataclass

from training.toybox.sample_concepts.pen import WHITE, Outline, oval, shade
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.pen import Build, QuickPen, palette_of
from training.toybox.scenes.individuals.traits import Individual

Marks = tuple[tuple[float, float, float, float, float], ...]
"""Ovals: x, y, width, height, angle."""

IRISES = ((120, 215, 90), (190, 225, 90), (255, 214, 70), (110, 195, 245), (176, 112, 56), (235, 170, 70))
CREAM_WHITE = (255, 240, 214)


@dataclass(frozen=True)
class Coat:
    """Colours, proportions and marks of one animal; lengths are relative to the kind's usual ones.

    `body_marks` are in shares of the body's half width and half height around its middle; `face_marks` are in the
    head's units. `style` picks among a kind's ears, `tail` among its tails.
    """

    pattern: str
    fur: Colour
    mark: Colour
    worn: Colour
    muzzle: Colour
    ears: Colour
    paws: Colour
    tail_tip: Colour
    iris: Colour
    nose: Colour
    eye: float
    eye_apart: float
    eye_height: float
    face_width: float
    face_height: float
    ear: float
    ear_turn: float
    style: int
    tail: int
    tail_length: float
    length: float
    depth: float
    leg: float
    leg_width: float
    muzzle_size: float
    body_marks: Marks
    face_marks: Marks
    stripe: float
    stripes: int
    open_mouth: bool


def coat_of(individual: Individual, build: Build) -> Coat:
    """The coat of an individual, by its traits and seed."""
    palette = palette_of(individual, build)
    pattern, fur, mark = individual.pattern, palette.main, palette.second
    light = build.vary(WHITE if build.chance(0.6) else CREAM_WHITE, 5)
    muzzle = mark if pattern in ("bib", "socks") else light
    marked_ears = build.chance(0.5)
    ears = {
        "patches": mark if marked_ears else fur,
        "spots": fur,
        "socks": mark if marked_ears else fur,
    }.get(pattern, shade(fur, 0.72) if build.chance(0.4) else fur)
    tipped = pattern in ("stripes", "socks", "bib") or (pattern == "patches" and build.chance(0.5))
    return Coat(
        pattern=pattern,
        fur=fur,
        mark=mark,
        worn=palette.accessory,
        muzzle=muzzle,
        ears=ears,
        paws=mark if pattern == "socks" or (pattern == "bib" and marked_ears) else fur,
        tail_tip=mark if tipped else fur,
        iris=build.vary(IRISES[build.index(len(IRISES))], 12),
        nose=((240, 140, 155), (44, 38, 42), (120, 70, 60))[build.index(3)],
        eye=build.between(0.88, 1.2),
        eye_apart=build.between(8.6, 11),
        eye_height=build.between(-5, -1.5),
        face_width=build.between(0.9, 1.12),
        face_height=build.between(0.92, 1.12),
        ear=build.between(0.8, 1.25),
        ear_turn=build.between(-12, 14),
        style=build.index(3),
        tail=build.index(3),
        tail_length=build.between(0.75, 1.2),
        length=build.between(0.86, 1.14),
        depth=build.between(0.88, 1.14),
        leg=build.between(0.8, 1.15),
        leg_width=build.between(0.88, 1.15),
        muzzle_size=build.between(0.88, 1.15),
        body_marks=_body_marks(pattern, build),
        face_marks=_face_marks(pattern, build),
        stripe=build.between(5.5, 8.5),
        stripes=3 + build.index(3),
        open_mouth=build.chance(0.4),
    )


def _body_marks(pattern: str, build: Build) -> Marks:
    """Spots as a jittered grid, patches as two or three large blobs."""
    if pattern == "spots":
        size, rows = build.between(7.5, 12), []
        for row, y in enumerate((-0.72, -0.12, 0.5)):
            for column in range(4):
                x = -0.8 + 0.52 * column + 0.26 * (row % 2) + build.between(-0.11, 0.11)
                scale = size * build.between(0.75, 1.2)
                rows.append((x, y + build.between(-0.13, 0.13), scale, scale * build.between(0.8, 1.1), 0.0))
        return tuple(rows)
    if pattern == "patches":
        start = build.between(-0.75, -0.35)
        spots = [(start, build.between(-0.7, 0.2)), (start + build.between(0.8, 1.1), build.between(-0.8, 0.1))]
        if build.chance(0.5):
            spots.append((build.between(0.1, 0.8), build.between(0.5, 0.9)))
        return tuple((x, y, build.between(22, 31), build.between(20, 28), build.between(-30, 30)) for x, y in spots)
    return ()


def _face_marks(pattern: str, build: Build) -> Marks:
    side = 1 if build.chance(0.5) else -1
    if pattern == "spots":
        places = ((side * 12, -13), (-side * 6, -15), (side * 18, 2), (-side * 18, -2), (0, -9))
        count = 2 + build.index(3)
        return tuple((x, y, size := build.between(5, 9), size, 0.0) for x, y in places[:count])
    if pattern == "patches":
        return ((side * 10, -4, build.between(19, 24), build.between(21, 27), side * 10.0),)
    if pattern == "stripes":
        height = build.between(11, 17)
        return ((0, -15, 4.5, height, 0), (-8.5, -13, 4.5, height - 2, -16), (8.5, -13, 4.5, height - 2, 16))
    if pattern == "bib" and build.chance(0.6):
        return ((0, 2, build.between(7, 12), 40, 0), (0, 17, 30, 18, 0))
    if pattern == "socks" and build.chance(0.6):
        return ((-9.5, -13, 8, 5.5, 0), (9.5, -13, 8, 5.5, 0))
    return ()


def draw_hide(pen: QuickPen, coat: Coat, outline: Outline, colour: Colour, edge: float = 0) -> None:
    """The outline filled; on a curly animal with bumps of wool all around."""
    if coat.pattern == "curly":
        bumps = [oval(x, y, 10.5, 10.5)[::4] for x, y in outline[::8]]
        for bump in bumps:
            pen.fill(bump, shade(colour, 0.8))
        for bump, (x, y) in zip(bumps, outline[::8], strict=True):
            pen.fill((bump - (x, y)) * 0.84 + (x, y), colour)
    pen.fill(outline, colour, 0 if coat.pattern == "curly" else edge)
