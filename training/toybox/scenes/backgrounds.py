"""Renders random backgrounds: 12 scenes and plain colours."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.toybox.scenes.items import PLAIN

Colour = tuple[int, int, int]
Rng = np.random.Generator
SUPERSAMPLING = 2


class Canvas:
    """A square canvas in unit coordinates, (0, 0) top left, (1, 1) bottom right."""

    def __init__(self, side: int, rng: Rng):
        self.side = side
        self.rng = rng
        self.image = Image.new("RGB", (side, side))
        self.draw = ImageDraw.Draw(self.image)

    def vary(self, colour: Colour, amount: int = 12) -> Colour:
        """The colour, each channel moved by up to `amount` levels."""
        moved = np.clip(np.array(colour) + self.rng.integers(-amount, amount + 1, 3), 0, 255)
        return int(moved[0]), int(moved[1]), int(moved[2])

    def between(self, low: float, high: float) -> float:
        """A uniformly random number."""
        return float(self.rng.uniform(low, high))

    def gradient(self, top: Colour, bottom: Colour, start: float = 0.0, end: float = 1.0) -> None:
        """A vertical gradient over the rows from `start` to `end`."""
        first, last = round(start * self.side), round(end * self.side)
        ramp = np.linspace(0, 1, max(last - first, 1))[:, None, None]
        rows = np.array(top) * (1 - ramp) + np.array(bottom) * ramp
        band = np.broadcast_to(rows, (len(ramp), self.side, 3)).astype(np.uint8)
        self.image.paste(Image.fromarray(band), (0, first))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        s = self.side
        self.draw.rectangle((left * s, top * s, right * s, bottom * s), fill=colour)

    def ellipse(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """A filled ellipse around (x, y)."""
        s = self.side
        corners = ((x - width / 2) * s, (y - height / 2) * s, (x + width / 2) * s, (y + height / 2) * s)
        self.draw.ellipse(corners, fill=colour)

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        """A filled polygon."""
        self.draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=colour)

    def wave(self, height: float, amplitude: float, colour: Colour, waves: float = 1.5) -> None:
        """Everything below a sine wave."""
        phase = self.between(0, 2 * math.pi)
        xs = np.linspace(0, 1, 33)
        ridge = [(float(x), height + amplitude * math.sin(waves * 2 * math.pi * x + phase)) for x in xs]
        self.polygon([*ridge, (1, 1), (0, 1)], colour)


def _beach(c: Canvas) -> None:
    horizon, shore = c.between(0.25, 0.35), c.between(0.48, 0.58)
    c.gradient(c.vary((130, 200, 250)), c.vary((205, 235, 255)), 0, horizon)
    c.gradient(c.vary((20, 120, 200)), c.vary((60, 180, 220)), horizon, 1)
    c.wave(shore, 0.012, (240, 250, 255), 2)
    c.wave(shore + 0.025, 0.012, c.vary((238, 214, 160), 8), 2)
    if c.rng.random() < 0.5:
        c.ellipse(c.between(0.1, 0.9), c.between(0.08, 0.16), 0.13, 0.13, (255, 235, 120))


def _grass(c: Canvas) -> None:
    horizon = c.between(0.3, 0.42)
    c.gradient(c.vary((120, 190, 250)), c.vary((200, 230, 255)), 0, horizon + 0.05)
    c.wave(horizon, 0.02, c.vary((110, 190, 70)))
    c.wave(horizon + 0.12, 0.02, c.vary((90, 170, 55)))
    for _ in range(26):
        x, y = c.between(0, 1), c.between(horizon + 0.12, 1)
        c.polygon([(x - 0.01, y), (x + 0.01, y), (x, y - 0.04)], c.vary((60, 140, 40)))
    for _ in range(c.rng.integers(0, 4)):
        c.ellipse(c.between(0, 1), c.between(0.04, 0.2), c.between(0.18, 0.3), 0.07, (250, 252, 255))


def _snow(c: Canvas) -> None:
    horizon = c.between(0.35, 0.5)
    c.gradient(c.vary((165, 190, 215)), c.vary((215, 228, 240)), 0, horizon + 0.05)
    c.wave(horizon, 0.025, c.vary((238, 244, 252), 4))
    c.wave(horizon + 0.2, 0.03, c.vary((250, 252, 255), 3))
    for _ in range(40):
        size = c.between(0.008, 0.02)
        c.ellipse(c.between(0, 1), c.between(0, 1), size, size, (255, 255, 255))


def _desert(c: Canvas) -> None:
    horizon = c.between(0.35, 0.48)
    c.gradient(c.vary((250, 190, 110)), c.vary((255, 230, 170)), 0, horizon + 0.05)
    c.wave(horizon, 0.04, c.vary((225, 160, 85)), 1)
    c.wave(horizon + 0.15, 0.05, c.vary((212, 142, 68)), 1)
    c.wave(horizon + 0.33, 0.04, c.vary((198, 126, 56)), 1)


def _night(c: Canvas) -> None:
    horizon = c.between(0.72, 0.82)
    c.gradient(c.vary((8, 10, 40), 6), c.vary((30, 35, 90), 8))
    for _ in range(36):
        size = c.between(0.006, 0.018)
        c.ellipse(c.between(0, 1), c.between(0, horizon), size, size, (255, 250, 210))
    x, y = c.between(0.1, 0.9), c.between(0.08, 0.2)
    c.ellipse(x, y, 0.14, 0.14, (250, 240, 190))
    c.ellipse(x + 0.04, y - 0.02, 0.12, 0.12, (15, 18, 55))
    c.wave(horizon, 0.02, c.vary((10, 25, 30), 5))


def _table(c: Canvas) -> None:
    c.gradient(c.vary((150, 95, 50)), c.vary((175, 112, 62)))
    edge = 0.0
    while edge < 1:
        width = c.between(0.1, 0.16)
        c.box(0, edge, 1, edge + width - 0.01, c.vary((168, 108, 58), 10))
        for _ in range(3):
            x, y = c.between(-0.2, 0.9), edge + c.between(0.01, width - 0.02)
            c.box(x, y, x + c.between(0.1, 0.5), y + 0.006, c.vary((135, 82, 40), 8))
        edge += width


def _checkerboard(c: Canvas) -> None:
    cells, dark, light = int(c.rng.integers(5, 8)), c.vary((40, 40, 46)), c.vary((235, 235, 235))
    c.box(0, 0, 1, 1, light)
    for row in range(cells):
        for column in range(row % 2, cells, 2):
            c.box(column / cells, row / cells, (column + 1) / cells, (row + 1) / cells, dark)


def _forest(c: Canvas) -> None:
    c.gradient(c.vary((40, 95, 60)), c.vary((75, 130, 70)))
    for _ in range(c.rng.integers(5, 8)):
        x, width = c.between(0, 1), c.between(0.04, 0.08)
        c.box(x, 0, x + width, 0.75, c.vary((80, 55, 35)))
    for _ in range(14):
        c.ellipse(c.between(0, 1), c.between(0, 0.22), c.between(0.2, 0.35), 0.2, c.vary((25, 90, 45), 16))
    c.wave(c.between(0.68, 0.78), 0.02, c.vary((50, 80, 35)))


def _underwater(c: Canvas) -> None:
    c.gradient(c.vary((40, 170, 210)), c.vary((8, 50, 120)))
    for _ in range(3):
        x = c.between(0, 1)
        c.polygon([(x, 0), (x + 0.08, 0), (x - 0.05, 0.6), (x - 0.2, 0.6)], c.vary((60, 175, 212), 6))
    c.wave(c.between(0.84, 0.9), 0.02, c.vary((200, 185, 130)))
    for _ in range(12):
        size = c.between(0.015, 0.04)
        c.ellipse(c.between(0, 1), c.between(0, 0.85), size, size, (170, 225, 245))
    for _ in range(3):
        x = c.between(0, 1)
        c.polygon([(x - 0.02, 1), (x + 0.02, 1), (x + c.between(-0.03, 0.03), 0.7)], c.vary((20, 120, 70)))


def _bricks(c: Canvas) -> None:
    c.box(0, 0, 1, 1, c.vary((200, 190, 180)))
    rows = int(c.rng.integers(8, 11))
    tone = c.vary((165, 70, 50), 14)
    for row in range(rows):
        for column in range(-1, 5):
            left = (column + 0.5 * (row % 2)) / 4.5
            c.box(left, row / rows, left + 0.205, (row + 0.84) / rows, c.vary(tone, 8))


def _city(c: Canvas) -> None:
    ground = c.between(0.66, 0.76)
    c.gradient(c.vary((150, 195, 235)), c.vary((235, 225, 215)), 0, ground)
    x = -0.05
    while x < 1:
        width, top = c.between(0.12, 0.2), c.between(0.08, 0.4)
        c.box(x, top, x + width, ground, c.vary((105, 115, 140), 22))
        for row in np.arange(top + 0.04, ground - 0.05, 0.09):
            for column in np.arange(x + 0.025, x + width - 0.03, 0.05):
                c.box(float(column), float(row), float(column) + 0.022, float(row) + 0.04, (250, 230, 150))
        x += width + 0.01
    c.box(0, ground, 1, 1, c.vary((75, 75, 82), 8))
    for x in np.arange(c.between(-0.2, 0), 1, 0.3):
        c.box(float(x), ground + 0.13, float(x) + 0.15, ground + 0.155, (240, 240, 235))


def _mountains(c: Canvas) -> None:
    ground = c.between(0.62, 0.72)
    c.gradient(c.vary((110, 175, 240)), c.vary((215, 235, 250)), 0, ground + 0.05)
    for _ in range(4):
        x, top, half = c.between(-0.05, 1.05), c.between(0.1, 0.32), c.between(0.28, 0.4)
        c.polygon([(x - half, ground + 0.05), (x, top), (x + half, ground + 0.05)], c.vary((110, 110, 130), 14))
        cap = 0.3
        c.polygon(
            [
                (x - half * cap, top + (ground - top) * cap),
                (x, top),
                (x + half * cap, top + (ground - top) * cap),
            ],
            (245, 248, 252),
        )
    c.wave(ground, 0.02, c.vary((95, 140, 80)))


_SCENES: dict[str, Callable[[Canvas], None]] = {
    "beach": _beach,
    "grass": _grass,
    "snow": _snow,
    "desert": _desert,
    "night": _night,
    "table": _table,
    "checkerboard": _checkerboard,
    "forest": _forest,
    "underwater": _underwater,
    "bricks": _bricks,
    "city": _city,
    "mountains": _mountains,
}


def draw_background(name: str, side: int, rng: Rng) -> Image.Image:
    """The background of this name (see `items.BACKGROUNDS`) as an RGB picture of side x side pixels."""
    canvas = Canvas(side * SUPERSAMPLING, rng)
    if name in _SCENES:
        _SCENES[name](canvas)
        return canvas.image.filter(ImageFilter.BoxBlur(0.5)).reduce(SUPERSAMPLING)
    return Image.new("RGB", (side, side), canvas.vary(PLAIN[name.removeprefix("plain ")], 8))
