from collections.abc import Callable
from pathlib import Path

import pytest
from diffusers import ControlNetModel

from concepts import Library
from studio.models.base_model import load_base


@pytest.fixture
def control_net(tiny_folder: Path, tmp_path: Path) -> Path:
    base = load_base(str(tiny_folder), device="cpu")
    net = ControlNetModel.from_unet(base.pipeline.unet, conditioning_embedding_out_channels=(8, 8))
    net.save_pretrained(tmp_path / "pose")
    return tmp_path / "pose"


def test_pictures_follow_a_pose(
    studio: Callable, library: Library, tiny_folder: Path, pictures: Path, control_net: Path, tmp_path: Path
):
    options = [
        "--library",
        library.root,
        "--base",
        tiny_folder,
        "--num-images",
        1,
        "--num-inference-steps",
        1,
        "-o",
        tmp_path / "out",
    ]
    pose = ["--control", f"pose:{pictures / '0.png'}", "--control-model", f"pose:{control_net}"]
    done = studio(
        "generate", "a <rex>", *pose, "--region", "rex:0,0,1,0.5", "--conditioning-scale", "pose=0.8", *options
    )
    assert done.status == 0, done.err
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    for arguments, said in (
        (pose[:2], "Give --control-model pose:FOLDER"),
        (pose[2:], "Give --control pose:IMAGE"),
        (["--control", str(pictures / "0.png")], "has no kind"),
        ([*pose[:2], "--control-model", f"pose:{tmp_path}"], "is not a T2I-Adapter or ControlNet"),
    ):
        refused = studio("generate", "a <rex>", *arguments, *options)
        assert (refused.status, said in refused.err) == (2, True), refused.err
