from PIL import Image

from training.engine.trainer import Progress
from training.engine.validation import Preview
from training.jobs.previews import store_preview, stored_previews
from training.jobs.tensorboard import TensorBoardLog

PICTURES = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]


def test_previews_are_stored_by_step(tmp_path):
    store_preview(tmp_path, 100, PICTURES, 0.75)
    store_preview(tmp_path, 20, PICTURES, None)
    (tmp_path / "preview-other.png").write_text("no preview")
    assert [(kept.step, kept.alignment) for kept in stored_previews(tmp_path)] == [(20, None), (100, 0.75)]
    with Image.open(stored_previews(tmp_path)[0].file) as picture:
        assert picture.width > 32
    assert stored_previews(tmp_path / "missing") == []


def test_a_training_from_its_first_step_clears_the_folder(tmp_path):
    store_preview(tmp_path, 50, PICTURES, 0.5)
    log = TensorBoardLog(tmp_path)
    log.progress(Progress(1, 10, 0.5))
    log.preview(Preview(2, PICTURES, 0.25))
    log.close()
    assert [(kept.step, kept.alignment) for kept in stored_previews(tmp_path)] == [(2, 0.25)]
