import base64
import io

import pytest
from PIL import Image

from concepts.errors import StudioError
from ui.web.masks import mask_from_uri, uri_of_mask


def uri(picture: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def drawn(size: tuple[int, int] = (320, 160)) -> Image.Image:
    """White on the left."""
    picture = Image.new("RGB", size)
    picture.paste("white", (0, 0, size[0] // 2, size[1]))
    return picture


def test_what_was_generated_has_the_size_of_the_picture(tmp_path):
    mask = mask_from_uri(uri(drawn()), (200, 100))
    assert mask
    assert (mask.mode, mask.size, set(mask.tobytes())) == ("L", (200, 100), {0, 255})
    assert mask.getbbox() == (0, 0, 100, 100)
    mask.save(tmp_path / "mask.png")
    assert mask_from_uri(uri_of_mask(tmp_path / "mask.png"), (200, 100)) == mask


def test_nothing_generated_is_no_mask():
    assert mask_from_uri(uri(Image.new("RGB", (20, 20))), (64, 64)) is None
    assert uri_of_mask(None) == ""


@pytest.mark.parametrize(
    "sent",
    ["", "data:image/png;base64,§", "data:image/png;base64,AAAA", "file:///etc/passwd", uri(drawn(), "JPEG"),
     uri(drawn((2000, 20))), "data:image/png;base64," + "A" * 1_000_001],
)  # fmt: skip
def test_what_no_brush_sends_is_refused(sent):
    with pytest.raises(StudioError, match=r"mask"):
        mask_from_uri(sent, (64, 64))
