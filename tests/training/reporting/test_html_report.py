import base64
import io
import re
import warnings

import numpy as np
import pytest
from PIL import Image

from training.reporting.html_report import Section, loss_curves, training_curves, write_report


def test_a_report_is_one_file_with_its_pictures_inside(tmp_path):
    picture = Image.new("RGB", (5, 3), "teal")
    rows = [{"concept": "rex", "image_alignment": 0.12345, "pictures": 16}, {"concept": "milo"}]
    sections = [Section("Rex & <rex>", "a <b>bold</b> claim"), Section("Scores", "of both", [picture], rows)]
    path = write_report(tmp_path / "report.html", "The <demo>", sections)
    assert path.is_absolute()
    html = path.read_text()
    for shown in ("The &lt;demo&gt;", "Rex &amp; &lt;rex&gt;", "a &lt;b&gt;bold", "image alignment", ">0.123<", ">16<"):
        assert shown in html
    assert "<b>" not in html
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == picture.tobytes()
    assert not re.search(r'(src|href)="(?!data:)', html)


def test_a_report_takes_the_place_of_the_one_before(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, "first", [])
    write_report(path, "second", [])
    assert "second" in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("steps", [1, 19, 20, 200])
def test_loss_curves_of_any_length_are_drawn(steps: int):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = loss_curves({"rex": np.linspace(1, 0.5, steps).tolist(), "milo": [0.7] * steps})
    assert picture.mode == "RGB"
    assert np.asarray(picture).std() > 5


def test_loss_curves_show_the_losses():
    falling, rising = (loss_curves({"rex": values}) for values in ([3.0, 2.0, 1.0] * 20, [1.0, 2.0, 3.0] * 20))
    assert falling.tobytes() != rising.tobytes()


@pytest.mark.parametrize("alignments", [[], [[2, 0.5], [4, 0.7]]])
def test_the_curves_of_a_training_are_drawn(alignments: list):
    rates = {"unet": [1e-3, 5e-4, 0.0], "token": [1e-2, 0.0, 0.0]}
    picture = training_curves({"losses": [0.5, 0.4, 0.3], "rates": rates, "alignments": alignments}, "rex")
    assert picture.width == pytest.approx(495 * (3 if alignments else 2), abs=2)
    assert np.asarray(picture).std() > 10
