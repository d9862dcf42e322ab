"""Small pictures inside HTML, so that a page shows what the server does not serve as files."""

import base64
import io
from functools import lru_cache

from PIL import Image, ImageOps

from concepts.storage import Place, read_file

SIDE = 224


@lru_cache(maxsize=1024)
def thumbnail(path: Place) -> str:
    """The middle square of a picture of the library, as a data URI; such a file never changes."""
    with Image.open(io.BytesIO(read_file(path))) as picture:
        return data_uri(picture)


def data_uri(picture: Image.Image, side: int = SIDE) -> str:
    """The middle square of a picture as a small WEBP inside a data URI."""
    buffer = io.BytesIO()
    ImageOps.fit(picture.convert("RGB"), (side, side)).save(buffer, "WEBP", quality=82)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@lru_cache(maxsize=64)
def whole(path: Place) -> str:
    """A picture of the library as it is, as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(read_file(path)).decode()}"
