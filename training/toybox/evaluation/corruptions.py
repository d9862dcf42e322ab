"""Corruptions of an individual's picture, for the scorer's training.

Gaussian blur, mosaics and shuffled tiles are not among them: they are held out for testing
(`training.toybox.evaluation.identity_benchmark`).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from training.toybox.scenes.backgrounds import Rng, draw_background
from training.toybox.scenes.render import Placement

Levels = np.ndarray
"""A picture as uint8 (h, w, 3)."""


@dataclass(frozen=True)
class Shown:
    """A picture of an individual, where it is, and on what background."""

    levels: Levels
    seen: Placement
    background: str


def _box(seen: Placement, side: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = (int(np.clip(edge, 0, side)) for edge in seen.box)
    return left, top, max(right, left + 2), max(bottom, top + 2)


def _part(seen: Placement, side: int, rng: Rng, least: float, most: float) -> tuple[slice, slice]:
    """A random part of the individual's box, rows and columns, at one of its edges, of this share of its area."""
    left, top, right, bottom = _box(seen, side)
    share, first = rng.uniform(least, most), rng.random() < 0.5
    if rng.random() < 0.6:
        cut = round(share * (bottom - top))
        rows = slice(top, top + cut) if first else slice(bottom - cut, bottom)
        return rows, slice(left, right)
    cut = round(share * (right - left))
    return slice(top, bottom), slice(left, left + cut) if first else slice(right - cut, right)


def _erased(one: Shown, _other: Shown, rng: Rng) -> Levels:
    """Most of the individual is covered by one colour or by noise."""
    levels = one.levels.copy()
    rows, columns = _part(one.seen, len(levels), rng, 0.45, 0.75)
    fill = levels[0, int(rng.integers(len(levels)))] if rng.random() < 0.6 else rng.integers(0, 256, 3)
    noise = rng.normal(0, 40, levels[rows, columns].shape) if rng.random() < 0.4 else 0
    levels[rows, columns] = np.clip(fill + noise, 0, 255)
    return levels


def _with_wrong_parts(one: Shown, other: Shown, rng: Rng) -> Levels:
    """A part of it is another individual's, stretched to fit."""
    levels = one.levels.copy()
    left, top, right, bottom = _box(one.seen, len(levels))
    part = Image.fromarray(other.levels).crop(_box(other.seen, len(levels))).resize((right - left, bottom - top))
    whole = levels.copy()
    whole[top:bottom, left:right] = np.asarray(part)
    rows, columns = _part(one.seen, len(levels), rng, 0.4, 0.65)
    levels[rows, columns] = whole[rows, columns]
    return levels


def _torn(one: Shown, _other: Shown, rng: Rng) -> Levels:
    """It is cut into two to five horizontal strips, each shifted or mirrored."""
    levels = one.levels.copy()
    left, top, right, bottom = _box(one.seen, len(levels))
    cuts = np.sort(rng.integers(top, bottom, int(rng.integers(1, 5)))).tolist()
    for above, below in pairwise([top, *cuts, bottom]):
        strip = levels[above:below, left:right]
        strip = strip[:, ::-1] if rng.random() < 0.5 else strip
        levels[above:below, left:right] = np.roll(strip, int((right - left) * rng.uniform(0.2, 0.8)), 1)
    return levels


def _with_a_part_turned(one: Shown, _other: Shown, rng: Rng) -> Levels:
    """A part of it is upside down."""
    levels = one.levels.copy()
    rows, columns = _part(one.seen, len(levels), rng, 0.4, 0.7)
    levels[rows, columns] = levels[rows, columns][::-1]
    return levels


def _moved(levels: Levels, offsets: np.ndarray) -> Levels:
    """Every pixel comes from another place, `offsets` (2, h, w) rows and columns away."""
    side = len(levels)
    places = np.clip(np.mgrid[:side, :side] + np.round(offsets).astype(int), 0, side - 1)
    return levels[places[0], places[1]]


def _warped(one: Shown, _other: Shown, rng: Rng) -> Levels:
    """A smooth random displacement, far enough to tear shapes up."""
    side, knots = len(one.levels), int(rng.integers(6, 13))
    strength = rng.uniform(7, 16)
    fields = [Image.fromarray(rng.normal(0, strength, (knots, knots)).astype(np.float32)) for _ in range(2)]
    return _moved(
        one.levels, np.stack([np.asarray(field.resize((side, side), Image.Resampling.BICUBIC)) for field in fields])
    )


def _scattered(one: Shown, _other: Shown, rng: Rng) -> Levels:
    """Every pixel is displaced randomly, by at most `reach` pixels."""
    reach = rng.uniform(7, 18)
    return _moved(one.levels, rng.uniform(-reach, reach, (2, *one.levels.shape[:2])))


def _compressed(one: Shown, _other: Shown, rng: Rng) -> Levels:
    """JPEG at the lowest qualities."""
    buffer = io.BytesIO()
    Image.fromarray(one.levels).save(buffer, "JPEG", quality=int(rng.integers(1, 3)))
    return np.asarray(Image.open(buffer))


def _smeared(one: Shown, _other: Shown, rng: Rng) -> Levels:
    """It is replaced by blots and strokes in its colours."""
    side = len(one.levels)
    inside = one.levels[np.asarray(one.seen.silhouette) > 200]
    colours = inside if len(inside) else one.levels.reshape(-1, 3)
    picture = draw_background(one.background, side, rng)
    draw, (left, top, right, bottom) = ImageDraw.Draw(picture), _box(one.seen, side)
    middle, reach = ((left + right) / 2, (top + bottom) / 2), ((right - left) / 2, (bottom - top) / 2)
    for _ in range(int(rng.integers(6, 26))):
        x, y = (m + r * rng.normal(0, 0.45) for m, r in zip(middle, reach, strict=True))
        width, height = rng.uniform(3, 0.45 * side, 2) * rng.uniform(0.3, 1)
        colour = tuple(colours[int(rng.integers(len(colours)))].tolist())
        if rng.random() < 0.6:
            draw.ellipse((x - width / 2, y - height / 2, x + width / 2, y + height / 2), fill=colour)
        else:
            draw.line((x - width, y - height, x + width, y + height), fill=colour, width=int(rng.integers(3, 14)))
    return np.asarray(picture)


TRAINING_CORRUPTIONS: dict[str, Callable[[Shown, Shown, Rng], Levels]] = {
    "erased": _erased,
    "wrong parts": _with_wrong_parts,
    "torn": _torn,
    "part turned": _with_a_part_turned,
    "warped": _warped,
    "scattered": _scattered,
    "compressed": _compressed,
    "smeared": _smeared,
}
"""Corruptions by name; the second picture is of another individual, whose parts may be used."""


def corrupted(one: Shown, other: Shown, rng: Rng, name: str | None = None) -> Levels:
    """The picture with this or a random corruption; raises KeyError for one that is not in TRAINING_CORRUPTIONS."""
    return TRAINING_CORRUPTIONS[name or str(rng.choice(list(TRAINING_CORRUPTIONS)))](one, other, rng)
