"""Patterns on the surfaces of objects."""

from dataclasses import dataclass

import numpy as np

from training.toybox.sample_concepts.pen import Outline, oval
from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.individuals.pen import Build, QuickPen


@dataclass(frozen=True)
class Surface:
    """A pattern with its measures in units: `pitch` from one mark to the next, `share` of it that a mark fills.

    `middle` is where a band or zigzag runs, as a share of the height; `lean` slants stripes.
    """

    pattern: str
    colour: Colour
    pitch: float
    share: float
    phase: float
    middle: float
    lean: float
    upright: bool


def surface_of(pattern: str, colour: Colour, build: Build) -> Surface:
    """The pattern with the build's random measures."""
    return Surface(
        pattern,
        colour,
        build.between(12, 18),
        build.between(0.36, 0.5),
        build.between(0, 1),
        build.between(0.5, 0.64),
        build.between(-14, 14),
        build.chance(0.6),
    )


def draw_surface(pen: QuickPen, surface: Surface, outline: Outline, shift: float = 0, sag: float = 0) -> None:
    """Draws the pattern inside the outline, moved right by `shift`; what runs across sags by `sag` in its middle."""
    if surface.pattern == "plain":
        return
    box = (*outline.min(0).tolist(), *outline.max(0).tolist())
    with pen.inside(outline) as inner:
        _DRAW[surface.pattern](inner, surface, box, shift, sag)


Box = tuple[float, float, float, float]


def _across(box: Box, y: float, sag: float, points: int = 13) -> Outline:
    left, _, right, _ = box
    x = np.linspace(-1, 1, points)
    return np.stack([(left + right) / 2 + x * (right - left) / 2 * 1.05, y + sag * np.sqrt(1 - x**2)], 1)


def _rings(pen: QuickPen, surface: Surface, box: Box, _shift: float, sag: float) -> None:
    first = box[1] + surface.pitch * (0.4 + 0.5 * surface.phase)
    for y in np.arange(first, box[3], surface.pitch):
        pen.stroke(_across(box, float(y), sag), surface.pitch * surface.share, surface.colour)


def _band(pen: QuickPen, surface: Surface, box: Box, _shift: float, sag: float) -> None:
    height = box[3] - box[1]
    line = _across(box, box[1] + surface.middle * height - sag, sag)
    half = np.array([0, height * (0.12 + 0.06 * surface.phase)])
    pen.fill(np.concatenate([line - half, line[::-1] + half]), surface.colour)


def _zigzag(pen: QuickPen, surface: Surface, box: Box, shift: float, sag: float) -> None:
    left, top, right, bottom = box
    half = surface.pitch * 0.62
    x = np.arange(left - 4 * half + shift + surface.phase * half, right + 4 * half, half)
    away = np.clip((x - (left + right) / 2) / (right - left) * 2, -1, 1)
    rows = (surface.middle,) if surface.phase < 0.5 else (surface.middle - 0.16, surface.middle + 0.2)
    rise = 0.55 * half if len(rows) == 2 else 0.75 * half
    for row in rows:
        y = top + row * (bottom - top) + rise * (-1.0) ** np.arange(len(x)) - sag * away**2
        pen.stroke(np.stack([x, y], 1), 5.5 if len(rows) == 2 else 6.5, surface.colour)


def _dots(pen: QuickPen, surface: Surface, box: Box, shift: float, sag: float) -> None:
    left, top, right, bottom = box
    pitch, size = surface.pitch, surface.pitch * (surface.share + 0.12)
    for row, y in enumerate(np.arange(top + pitch * (0.35 + 0.3 * surface.phase), bottom, pitch * 0.88)):
        for x in np.arange(left - pitch + shift % pitch + pitch / 2 * (row % 2), right + pitch, pitch):
            away = (x - (left + right) / 2) / (right - left) * 2
            pen.fill(oval(x, y + sag * (1 - away**2), size, size)[::3], surface.colour)


def _checks(pen: QuickPen, surface: Surface, box: Box, shift: float, sag: float) -> None:
    left, top, right, bottom = box
    side = surface.pitch * 0.8
    edge = 0.9 * side  # a little less than half, so that the ground stays the main colour
    for row, y in enumerate(np.arange(top - side * surface.phase, bottom, side)):
        for x in np.arange(left - 2 * side + shift % (2 * side) + side * (row % 2), right, 2 * side):
            low, high = (sag * (1 - ((end - (left + right) / 2) / (right - left) * 2) ** 2) for end in (x, x + side))
            corners = [(x, y + low), (x + edge, y + high), (x + edge, y + edge + high), (x, y + edge + low)]
            pen.fill(corners, surface.colour)


def _stripes(pen: QuickPen, surface: Surface, box: Box, shift: float, _sag: float) -> None:
    left, top, right, bottom = box
    lean, width = (0.0 if surface.upright else surface.lean), surface.pitch * surface.share
    for x in np.arange(left - 2 * surface.pitch + shift % surface.pitch, right + 2 * surface.pitch, surface.pitch):
        corners = [(x + lean, top), (x + lean + width, top), (x - lean + width, bottom), (x - lean, bottom)]
        pen.fill(corners, surface.colour)


_DRAW = {
    "rings": _rings,
    "band": _band,
    "zigzag": _zigzag,
    "dots": _dots,
    "checks": _checks,
    "stripes": _stripes,
}
