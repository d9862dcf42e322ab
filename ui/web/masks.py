"""Masks between the library and the page's brush, which has them as small PNG files inside data URIs."""

import base64
import binascii
import io

import gradio as gr
from PIL import Image

from concepts.errors import StudioError
from concepts.storage import StoragePath, read_file
from ui.web.assets import asset

_PREFIX = "data:image/png;base64,"
_MOST = 1_000_000
"""Characters; what the brush sends has some thousand."""
_SIDE = 1024


def brush(elem_id: str) -> gr.HTML:
    """A brush that paints over a picture. Its value holds both as data URIs, `picture` and `mask`, and in `drawn`
    whether a person has painted; it is empty without a picture.
    """
    return gr.HTML(
        html_template='<div class="brush"></div>', js_on_load=asset("brush.js"), value={}, elem_id=elem_id
    )  # fmt: skip


def mask_from_uri(uri: str, size: tuple[int, int]) -> Image.Image | None:
    """What was painted, as black and white in a picture of this size; None where nothing was.

    Raises StudioError for what no brush of the page sends.
    """
    if not uri.startswith(_PREFIX) or len(uri) > _MOST:
        raise StudioError("The browser sent an invalid mask. Paint the mask again.")
    try:
        data = base64.b64decode(uri.removeprefix(_PREFIX), validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if max(picture.size) > _SIDE:
                raise StudioError(
                    f"The mask has {max(picture.size)} pixels on one side. Paint one with at most {_SIDE}."
                )
            levels = picture.convert("L")
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise StudioError("The browser sent an invalid mask. Paint the mask again.") from error
    mask = levels.resize(size, Image.Resampling.BILINEAR).point([0] * 128 + [255] * 128)
    return mask if mask.getbbox() else None


def uri_of_mask(path: StoragePath | None, side: int = 320) -> str:
    """A stored mask as the brush takes it; empty for a picture that counts as a whole."""
    if path is None:
        return ""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(read_file(path))) as mask:
        mask.thumbnail((side, side))
        mask.convert("RGB").save(buffer, "PNG")
    return _PREFIX + base64.b64encode(buffer.getvalue()).decode()
