"""Perceptual distances of the named colours, in CIELAB."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from training.toybox.scenes.backgrounds import Colour
from training.toybox.scenes.items import COLOURS

CLEAR = 39.0
"""The minimum CIELAB distance of contrasting colours, as for a pattern and its ground."""
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


def lab(colour: Colour) -> NDArray[np.floating]:
    """An sRGB colour of 0..255 in CIELAB (D65), shape (3,)."""
    level = np.array(colour) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    ratio = _TO_XYZ @ linear / _WHITE
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: Colour, other: Colour) -> float:
    """The distance of two colours in CIELAB (CIE 1976)."""
    return float(np.linalg.norm(lab(one) - lab(other)))


def nearest(colour: Colour) -> str:
    """The name of the nearest named colour."""
    return min(COLOURS, key=lambda name: distance(COLOURS[name], colour))


@cache
def contrasting_colours(ground: str) -> tuple[str, ...]:
    """The names of the colours that contrast with the ground colour (a name of `items.COLOURS`)."""
    return tuple(name for name in COLOURS if distance(COLOURS[name], COLOURS[ground]) >= CLEAR)
