"""`studio lora`: what it prints, its exit status, and that it writes nothing when it refuses."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from studio.models.base_model import Base
from tests.studio.formats.foreign_files import FLAT, kohya, random, write


@pytest.fixture
def tuned(base: Base, tmp_path: Path) -> Path:
    unet = base.pipeline.unet
    with torch.no_grad():
        unet.conv_out.weight += torch.arange(unet.conv_out.weight.numel()).reshape(unet.conv_out.weight.shape) ** 0.5
        unet.conv_norm_out.weight += 1
    base.pipeline.save_pretrained(tmp_path / "tuned")
    return tmp_path / "tuned"


def test_a_lora_is_extracted(studio, tiny_folder: Path, tuned: Path, tmp_path: Path):
    output = tmp_path / "lora.safetensors"
    done = studio("lora", "extract", tiny_folder, tuned, "-o", output, "--rank", 2)
    assert done.status == 0
    assert done.out.startswith(f"Wrote {output}: 1 layers of rank 2\nRelative error ")
    assert "Note: A LoRA cannot store the changes of 1 norms. They are left out." in done.err
    assert {len(tensor) for key, tensor in load_file(output).items() if "down" in key} == {2}


def test_extracting_as_json(studio, tiny_folder: Path, tuned: Path, tmp_path: Path):
    output = tmp_path / "lora.safetensors"
    done = studio("lora", "extract", tiny_folder, tuned, "-o", output, "--json")
    assert done.status == 0
    assert done.document == {
        "file": str(output), "format": "kohya", "rank": 4, "error": done.document["error"], "lost": {"norms": 1},
        "ranks": {"unet.conv_out": 4},
    }  # fmt: skip
    assert done.document["error"] < 1e-6
    dynamic = tmp_path / "dynamic.safetensors"
    options = ("--dynamic-method", "sv_fro", "--dynamic-param", 0.01, "--json")
    assert studio("lora", "extract", tiny_folder, tuned, "-o", dynamic, *options).document["rank"] == 1


def test_a_lora_is_resized(studio, tmp_path: Path):
    source, output = write(tmp_path, {**kohya(), f"{FLAT}.diff_b": random(32)}), tmp_path / "small.safetensors"
    done = studio("lora", "resize", source, "-o", output, "--rank", 3, "--conv-rank", 2)
    assert done.status == 0
    assert f"Wrote {output}: 7 layers, from rank 4 to rank 2 to 3\nRelative error 0." in done.out
    assert "% of the energy (squared Frobenius norm) kept" in done.out
    assert "Note: 1 tensors of the file that are no LoRA are kept unchanged." in done.err
    other = tmp_path / "other.safetensors"
    options = ("--dynamic-method", "sv_ratio", "--dynamic-param", 1, "--json", "--dtype", "float16")
    document = studio("lora", "resize", source, "-o", other, *options).document
    assert {document["rank"], *document["ranks"].values()} == {1}
    assert document["energy"] == pytest.approx(1 - document["error"] ** 2, rel=1e-3)


def test_magnitudes_are_told(studio, tmp_path: Path):
    source = write(tmp_path, {**kohya(), f"{FLAT}.dora_scale": random(32, 1)})
    done = studio("lora", "resize", source, "-o", tmp_path / "small.safetensors", "--rank", 3)
    assert "Note: The DoRA magnitudes of 1 layers are kept, and the error is that before them." in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Give --rank or --dynamic-method"),
        (("--dynamic-method", "sv_fro"), "needs a --dynamic-param above 0"),
        (("--rank", 2, "--dtype", "int8"), "There is no dtype 'int8'"),
        (("--rank", 2, "--dynamic-param", 0.5), "belongs to a --dynamic-method"),
    ],
)
def test_refusals_are_a_sentence(studio, tmp_path: Path, options: tuple, message: str):
    source = write(tmp_path, kohya())
    done = studio("lora", "resize", source, "-o", tmp_path / "small.safetensors", *options)
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["rex.safetensors"]


def test_extracting_is_refused_in_a_sentence(studio, tiny_folder: Path, tmp_path: Path):
    done = studio("lora", "extract", tiny_folder, tiny_folder, "-o", tmp_path / "lora.safetensors")
    assert (done.status, done.out) == (2, "")
    assert "there is no LoRA to extract" in done.err
    assert list(tmp_path.iterdir()) == []
