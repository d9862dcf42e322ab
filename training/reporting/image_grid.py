"""Grids of pictures with titles, and PNG files with their settings inside."""

import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

GAP = 6
"""Pixels between the pictures of a grid, and around them."""
_TITLE = 22


def png_bytes(picture: Image.Image, settings: Mapping[str, str] | None = None) -> bytes:
    """The picture as a PNG file, with settings as text chunks."""
    info = PngInfo()
    for key, value in (settings or {}).items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def grid(pictures: Sequence[Image.Image], columns: int = 4) -> Image.Image:
    """Pictures of one size in rows."""
    return labelled_grid([("", pictures[start : start + columns]) for start in range(0, len(pictures), columns)])


def labelled_grid(rows: Sequence[tuple[str, Sequence[Image.Image]]], side: int | None = None) -> Image.Image:
    """Rows of pictures, each under its title where it has one; `side` scales every picture to a square."""
    sized = [(title, [p.resize((side, side)) if side else p for p in pictures]) for title, pictures in rows]
    width = max(sum(p.width + GAP for p in pictures) for _, pictures in sized) + GAP
    heights = [max(p.height for p in pictures) + GAP + (_TITLE if title else 0) for title, pictures in sized]
    sheet = Image.new("RGB", (width, sum(heights) + GAP), "white")
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(15), GAP
    for (title, pictures), height in zip(sized, heights, strict=True):
        if title:
            draw.text((GAP, top), title, fill="#222222", font=font)
        left = GAP
        for picture in pictures:
            sheet.paste(picture, (left, top + (_TITLE if title else 0)))
            left += picture.width + GAP
        top += height
    return sheet
