"""A comparison as files: one picture, or a page of its own."""

import textwrap

from PIL import Image, ImageDraw, ImageFont

from training.reporting.html_report import Section, report_html
from ui.services.scoring.comparison import Grid, caption

_LABEL, _GAP, _CAPTION, _LINE = 150, 8, 34, 18
_LETTER = 7
"""Pixels that a letter takes on average, at most."""


def as_picture(grid: Grid, title: str) -> Image.Image:
    """The grid as one picture, with its axes and scores."""
    side = max(cell.picture.width for cell in grid.cells)
    width = _LABEL + len(grid.columns) * (side + _GAP)
    heading = _wrapped(f"{title}   scored by {grid.backbone}", width)
    columns = [_wrapped(value, side) for value in grid.columns]
    under = 6 + _height(heading)
    top = under + max(map(_height, columns)) + 6
    sheet = Image.new("RGB", (width, top + len(grid.rows) * (side + _CAPTION)), "white")
    draw, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(13), ImageFont.load_default(11)
    draw.text((_GAP, 6), heading, fill="#222222", font=font)
    for x, value in enumerate(columns):
        draw.text((_LABEL + x * (side + _GAP), under), value, fill="#222222", font=font)
    for y, value in enumerate(grid.rows):
        draw.text((_GAP, top + y * (side + _CAPTION)), _wrapped(value, _LABEL), fill="#222222", font=font)
    for cell in grid.cells:
        place = (_LABEL + cell.column * (side + _GAP), top + cell.row * (side + _CAPTION))
        sheet.paste(cell.picture, place)
        draw.text((place[0], place[1] + side + 4), caption(cell.scores), fill="#555555", font=small)
    return sheet


def _wrapped(text: str, width: int) -> str:
    """The text in lines that fit into so many pixels."""
    return textwrap.fill(text, int((width - _GAP) / _LETTER))


def _height(text: str) -> int:
    return _LINE * (text.count("\n") + 1)


def as_html(grid: Grid, title: str) -> str:
    """The grid as a page of its own: the picture, and the scores as a table."""
    rows = [
        {"row": grid.rows[cell.row], "column": grid.columns[cell.column], "prompt": cell.prompt, **cell.scores}
        for cell in grid.cells
    ]
    return report_html("Comparison", [Section(title, f"Scored by {grid.backbone}.", [as_picture(grid, title)], rows)])
