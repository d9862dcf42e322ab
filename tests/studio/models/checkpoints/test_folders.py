"""Diffusers folders as people have them: each loads, or is refused with its own reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from concepts.errors import StudioError
from studio.models.base_model import load_base
from studio.models.family_detection import family_of_source

Change = Callable[[Path], Any]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def index(**values: Any) -> Change:
    """Other values in model_index.json."""
    return changed("model_index.json", **values)


def changed(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


def variant(*parts: str, name: str = "fp16") -> Change:
    """These parts have their weights as a variant in half precision alone."""

    def change(folder: Path) -> None:
        for part in parts:
            file = next((folder / part).glob("*.safetensors"))
            half = {key: tensor.half() for key, tensor in load_file(file).items()}
            save_file(half, file.with_name(f"{file.stem}.{name}.safetensors"), {"format": "pt"})
            file.unlink()

    return change


def sharded(folder: Path) -> None:
    """The UNet's weights are a variant in two shards, with an index."""
    file = folder / "unet" / WEIGHTS
    tensors, names = load_file(file), [f"diffusion_pytorch_model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]
    weight_map = {key: names[number % 2] for number, key in enumerate(sorted(tensors))}
    for name in names:
        save_file({key: tensors[key].half() for key in tensors if weight_map[key] == name}, file.with_name(name))
    whole = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    file.with_name(f"{file.name}.index.fp16.json").write_text(json.dumps(whole))
    file.unlink()


def pickled(folder: Path) -> None:
    """Weights as .bin alone, which torch reads without running code."""
    for file in folder.glob("*/*.safetensors"):
        name = "pytorch_model.bin" if file.name == "model.safetensors" else "diffusion_pytorch_model.bin"
        torch.save(load_file(file), file.with_name(name))
        file.unlink()


def marked(folder: Path) -> None:
    """Every JSON file begins with a byte order mark."""
    for file in folder.rglob("*.json"):
        file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8-sig")


def from_macos(folder: Path) -> None:
    for part in (".", "unet", "vae", "tokenizer"):
        (folder / part / "._x").write_bytes(b"\0")
        (folder / part / "._config.json").write_bytes(b"\0\5\x16\7")


def scheduler(name: str) -> Change:
    def change(folder: Path) -> None:
        index(scheduler=["diffusers", name])(folder)
        changed("scheduler/scheduler_config.json", _class_name=name)(folder)

    return change


LOADING: dict[str, Change] = {
    "as it is": lambda _: None,
    "fp16 variant": variant("unet", "vae", "text_encoder"),
    "fp16 variant of one part": variant("unet"),
    "other variant": variant("unet", "vae", "text_encoder", name="non_ema"),
    "variant in shards": sharded,
    ".bin": pickled,
    "byte order marks": marked,
    "image-to-image class": index(_class_name="StableDiffusionImg2ImgPipeline"),
    "inpainting class of an ordinary UNet": index(_class_name="StableDiffusionInpaintPipeline"),
    "ControlNet class": index(_class_name="StableDiffusionControlNetPipeline"),
    "safety checker": index(safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"]),
    "image encoder": index(image_encoder=["transformers", "CLIPVisionModelWithProjection"]),
    "Euler": scheduler("EulerAncestralDiscreteScheduler"),
    "LCM": scheduler("LCMScheduler"),
    "macOS' files": from_macos,
}


@pytest.mark.parametrize("name", LOADING)
def test_what_loads(name: str, tiny_folder: Path, tmp_path: Path, capfd):
    folder = tmp_path / "a folder & ünï"
    shutil.copytree(tiny_folder, folder)
    LOADING[name](folder)
    capfd.readouterr()
    base = load_base(str(folder), device="cpu")
    expected = load_file(tiny_folder / "unet" / WEIGHTS)["conv_out.weight"]
    torch.testing.assert_close(base.pipeline.unet.conv_out.weight, expected, atol=1e-3, rtol=0)
    assert base.pipeline.scheduler.config.prediction_type == "v_prediction"
    assert capfd.readouterr().err == ""


def removed(name: str) -> Change:
    def change(folder: Path) -> None:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()

    return change


def written(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def cut(folder: Path) -> None:
    file = folder / "unet" / WEIGHTS
    file.write_bytes(file.read_bytes()[:100_000])


def tensors(name: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    """The tensors of a file, changed in place."""

    def apply(folder: Path) -> None:
        held = load_file(folder / name)
        change(held)
        save_file(held, folder / name, {"format": "pt"})

    return apply


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
REFUSED: dict[str, tuple[Change, str]] = {
    "no index": (removed("model_index.json"), "has no model_index.json, so it is no diffusers folder"),
    "FLUX": (index(_class_name="FluxPipeline"), "is a FluxPipeline, which is not supported"),
    "SD 3": (index(_class_name="StableDiffusion3Pipeline"), "is a StableDiffusion3Pipeline, which is not supported"),
    "no class": (index(_class_name=None), "does not name a pipeline"),
    "refiner": (
        index(_class_name="StableDiffusionXLImg2ImgPipeline", text_encoder=[None, None], tokenizer=[None, None],
              text_encoder_2=["transformers", "CLIPTextModelWithProjection"]),
        "is the refiner of Stable Diffusion XL",
    ),
    "inpainting": (changed("unet/config.json", in_channels=9), "is an inpainting model"),
    "instruct-pix2pix": (changed("unet/config.json", in_channels=8), "is an InstructPix2Pix model"),
    "no VAE named": (index(vae=[None, None]), "names no vae"),
    "no VAE": (removed("vae"), "has no folder vae"),
    "no scheduler": (removed("scheduler"), "has no folder scheduler"),
    "no weights": (removed(f"unet/{WEIGHTS}"), "unet has no weights"),
    "no configuration": (removed("unet/config.json"), "has no unet/config.json"),
    "no vocabulary": (removed("tokenizer/tokenizer.json"), "tokenizer has no vocabulary"),
    "truncated": (cut, rf"unet/{WEIGHTS} is truncated: the last [\d,]+ bytes"),
    "Git LFS": (written(f"vae/{WEIGHTS}", LFS), f"vae/{WEIGHTS} is a Git LFS pointer"),
    "bad JSON": (written("model_index.json", b"{bad"), "model_index.json in .* is not JSON in UTF-8"),
    "JSON in UTF-16": (written("vae/config.json", "{}".encode("utf-16")), "vae/config.json in .* is not JSON in UTF-8"),
    "bad studio.json": (written("studio.json", b"{bad"), "studio.json cannot be read"),
    "NaN": (
        tensors(f"vae/{WEIGHTS}", lambda held: held["decoder.conv_out.weight"].mul_(float("nan"))),
        "decoder.conv_out.weight of the vae in .* NaN or infinite",
    ),
    "a tensor missing from the UNet": (
        tensors(f"unet/{WEIGHTS}", lambda held: held.pop("conv_out.bias")), r"unet lacks 1 of the model's \d+ tensors"
    ),
    "a tensor missing from the text encoder": (
        tensors("text_encoder/model.safetensors", lambda held: held.pop(max(held))), "text_encoder lacks 1 of the"
    ),
    "another size": (changed("vae/config.json", block_out_channels=[16, 16]), "vae has another layer size than its"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tiny_folder: Path, tmp_path: Path):
    change, sentence = REFUSED[name]
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    change(folder)
    with pytest.raises(StudioError, match=sentence):
        load_base(str(folder), device="cpu")


@pytest.mark.parametrize("name", ["no index", "FLUX", "SD 3", "no class", "refiner", "no VAE named", "bad JSON"])
def test_the_family_is_refused_with_the_same_reason(name: str, tiny_folder: Path, tmp_path: Path):
    """The family is asked for before the base is loaded, also of folders without a UNet."""
    change, sentence = REFUSED[name]
    shutil.copytree(tiny_folder, tmp_path / "model")
    change(tmp_path / "model")
    shutil.rmtree(tmp_path / "model/unet")
    with pytest.raises(StudioError, match=sentence):
        family_of_source(str(tmp_path / "model"))


def test_a_folder_of_a_checkpoint_names_the_file(tmp_path: Path):
    (tmp_path / "v1.safetensors").write_bytes(b"x")
    with pytest.raises(StudioError, match=r"Give the file .*v1\.safetensors itself"):
        load_base(str(tmp_path), device="cpu")
