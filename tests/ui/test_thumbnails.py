import base64
import io
from pathlib import Path

from PIL import Image

from training.pictures import grid
from ui.thumbnails import first_preview


def test_the_first_preview_comes_without_what_is_around_it(tmp_path: Path):
    row = grid([Image.new("RGB", (128, 128), colour) for colour in ("red", "blue", "blue", "blue")])
    row.save(tmp_path / "preview.png")
    data = base64.b64decode(first_preview(tmp_path / "preview.png").partition(",")[2])
    with Image.open(io.BytesIO(data)) as picture:
        corners = [picture.convert("RGB").getpixel(place) for place in ((0, 0), (223, 0), (0, 223), (223, 223))]
    assert all(red > 200 and blue < 60 for red, _, blue in corners)
