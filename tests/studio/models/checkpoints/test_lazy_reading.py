"""Weights read one by one are those of the loaded model."""

from pathlib import Path

import pytest
import torch

from concepts.errors import StudioError
from studio.formats.full_checkpoint import single_file_bytes
from studio.models.base_model import Base, load_base
from studio.models.checkpoints.lazy_reading import open_lazily
from tests.tiny_models import write_whole_file


def assert_equal(source: Path | str, base: Base) -> None:
    with open_lazily(str(source)) as opened:
        wanted = {(part, key): t for part, root in base.parts.items() for key, t in root.state_dict().items()}
        assert opened.shapes == {place: tuple(tensor.shape) for place, tensor in wanted.items()}
        assert all(torch.equal(opened.tensor(*place), tensor) for place, tensor in wanted.items())
        assert opened.family is base.family
        assert opened.prediction == base.pipeline.scheduler.config.prediction_type
        assert all(tensor.is_meta for part in opened.parts.values() for tensor in part.parameters())


def test_a_folder(base: Base, tiny_folder: Path):
    assert_equal(tiny_folder, base)


def test_a_single_file(base: Base, tiny_folder: Path, tmp_path: Path):
    assert_equal(write_whole_file(tmp_path, base, tiny_folder), base)


@pytest.mark.parametrize("single", [False, True], ids=["folder", "file"])
def test_sdxl(xl_folder: Path, tmp_path: Path, single: bool):
    base, source = load_base(str(xl_folder), device="cpu"), xl_folder
    if single:
        source = tmp_path / "xl.safetensors"
        source.write_bytes(single_file_bytes(base, None))
        (tmp_path / "xl").symlink_to(xl_folder)
    assert_equal(source, base)


def test_shards_and_half_precision(base: Base, tmp_path: Path):
    base.pipeline.to(torch.float16).save_pretrained(tmp_path / "half", max_shard_size="200KB", variant="fp16")
    assert len(list((tmp_path / "half" / "unet").glob("*.safetensors"))) > 1
    with open_lazily(str(tmp_path / "half")) as opened:
        weight = opened.tensor("unet", "conv_in.weight")
    assert weight.dtype == torch.float32
    assert torch.equal(weight, base.pipeline.unet.conv_in.weight.float())


def test_toybox_is_bundled():
    assert_equal("toybox", load_base("toybox", device="cpu"))


def test_nothing_is_refused(tmp_path: Path):
    with pytest.raises(StudioError, match="There is no checkpoint"), open_lazily(str(tmp_path / "none")):
        pass
