"""Small pictures inside HTML, so that a page shows what the server does not serve as files."""

import base64
import io
from functools import lru_cache

from PIL import Image, ImageOps

from concepts.storage import StoragePath, read_file
from training.reporting.image_grid import GAP

SIDE, FULL = 224, 1024


@lru_cache(maxsize=1024)
def thumbnail(path: StoragePath) -> str:
    """A square of a picture of the library, as a data URI; such a file never changes."""
    with Image.open(io.BytesIO(read_file(path))) as picture:
        return data_uri(picture)


@lru_cache(maxsize=1024)
def first_preview(path: StoragePath) -> str:
    """The first picture of a row of previews, as a data URI, without the white around it."""
    with Image.open(io.BytesIO(read_file(path))) as row:
        end = row.height - GAP
        return data_uri(row.crop((GAP, GAP, end, end)))


def data_uri(picture: Image.Image, side: int = SIDE) -> str:
    """A square of a picture as a small WEBP inside a data URI."""
    buffer = io.BytesIO()
    ImageOps.fit(picture.convert("RGB"), (side, side)).save(buffer, "WEBP", quality=82)
    return _uri(buffer)


def full(picture: Image.Image) -> str:
    """All of a picture for the viewer, with its longer side 1,024 pixels at most, as a data URI."""
    return shrunk(picture.copy(), FULL)


def fitted(path: StoragePath, side: int = 640) -> str:
    """All of a picture of the library, with its longer side so long at most, as a data URI."""
    return _fitted(read_file(path), side)


@lru_cache(maxsize=64)
def _fitted(data: bytes, side: int) -> str:
    with Image.open(io.BytesIO(data)) as picture:
        return shrunk(picture, side)


def shrunk(picture: Image.Image, side: int = 640) -> str:
    """All of a picture, with its longer side so long at most, as a data URI. The picture is changed."""
    buffer = io.BytesIO()
    picture.thumbnail((side, side))
    picture.convert("RGB").save(buffer, "WEBP", quality=88)
    return _uri(buffer)


@lru_cache(maxsize=64)
def whole(path: StoragePath) -> str:
    """A picture of the library as it is, as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(read_file(path)).decode()}"


def _uri(webp: io.BytesIO) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp.getvalue()).decode()}"
