import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from training.reporting.image_grid import grid
from ui.web.thumbnails import FULL, first_preview, full


def test_the_first_preview_comes_without_what_is_around_it(tmp_path: Path):
    row = grid([Image.new("RGB", (128, 128), colour) for colour in ("red", "blue", "blue", "blue")])
    row.save(tmp_path / "preview.png")
    data = base64.b64decode(first_preview(tmp_path / "preview.png").partition(",")[2])
    with Image.open(io.BytesIO(data)) as picture:
        corners = np.asarray(picture.convert("RGB"))[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners[:, 0] > 200).all()
    assert (corners[:, 2] < 60).all()


def test_a_picture_for_the_viewer_is_whole_and_leaves_the_original():
    picture = Image.new("RGB", (2 * FULL, FULL), "red")
    with Image.open(io.BytesIO(base64.b64decode(full(picture).partition(",")[2]))) as shown:
        assert shown.size == (FULL, FULL // 2)
    assert picture.size == (2 * FULL, FULL)
