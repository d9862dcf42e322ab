"""Single files as people have them: each loads, or is refused with its own reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from concepts.errors import StudioError
from studio.models.base_model import load_base
from studio.models.checkpoints.configurations import write_configurations

Tensors = dict[str, Tensor]
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
FIRST = f"{UNET}input_blocks.0.0.weight"


def wider(extra: int) -> Callable[[Tensors], Tensors]:
    """The UNet takes `extra` further channels."""
    return lambda whole: {**whole, FIRST: torch.cat([whole[FIRST], torch.zeros(len(whole[FIRST]), extra, 3, 3)], 1)}


def without(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda whole: {key: tensor for key, tensor in whole.items() if not key.startswith(prefix)}


def extra(**tensors: Tensor) -> Callable[[Tensors], Tensors]:
    return lambda whole: {**whole, **tensors}


def ema(whole: Tensors) -> Tensors:
    """With a second UNet, the exponential moving average, as in checkpoints to continue a training from."""
    copies = {f"model_ema.{key[6:].replace('.', '')}": t.clone() for key, t in whole.items() if key.startswith(UNET)}
    return {**whole, **copies, "model_ema.decay": torch.tensor(0.999), "alphas_cumprod": torch.zeros(1000)}


def converted(dtype: torch.dtype) -> Callable[[Tensors], Tensors]:
    return lambda whole: {key: tensor.to(dtype) for key, tensor in whole.items()}


def broken(key: str, value: float) -> Callable[[Tensors], Tensors]:
    def change(whole: Tensors) -> Tensors:
        tensor = whole[key].clone()
        tensor.view(-1)[-1] = value
        return {**whole, key: tensor}

    return change


LOADING = {
    "as it is": lambda whole: whole,
    "text encoder without text_model": lambda held: {k.replace(f"{TEXT}text_model.", TEXT): t for k, t in held.items()},
    "UNet without model": lambda held: {k.replace(UNET, "diffusion_model."): t for k, t in held.items()},
    "UNet without a prefix": lambda held: {k.removeprefix(UNET): t for k, t in held.items()},
    "VAE without a prefix": lambda held: {k.removeprefix(VAE): t for k, t in held.items()},
    "text encoder without a prefix": lambda held: {k.removeprefix("cond_stage_model."): t for k, t in held.items()},
    "with keys of another model": lambda held: {**held, "double_blocks.0.x": torch.zeros(1)},
    "in a state_dict": lambda held: {f"state_dict.{k}": t for k, t in held.items()},
    "position ids": extra(**{f"{TEXT}text_model.embeddings.position_ids": torch.arange(32)[None].half()}),
    "moving average": ema,
    "float16": converted(torch.float16),
    "bfloat16": converted(torch.bfloat16),
    "float8": lambda whole: {k: t.to(torch.float8_e4m3fn) if t.ndim > 1 else t.half() for k, t in whole.items()},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *((name, "model.safetensors") for name in LOADING),
        ("as it is", "model.SAFETENSORS"),
        ("as it is", "a model (v1.0), ünï.safetensors"),
    ],
)
def test_what_loads(name: str, file: str, whole_file: Path, tmp_path: Path):
    tensors = LOADING[name](load_file(whole_file))
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / file)
    (tmp_path / file).with_suffix("").symlink_to(whole_file.with_suffix(""))
    base = load_base(str(tmp_path / file), device="cpu")
    expected = load_file(whole_file)[f"{UNET}out.2.weight"]
    torch.testing.assert_close(base.pipeline.unet.conv_out.weight, expected, atol=0.1, rtol=0)
    assert base.pipeline.unet.conv_out.weight.dtype == torch.float32


REFUSED = {
    "inpainting": (wider(5), "is an inpainting model, whose UNet also takes a mask"),
    "instruct-pix2pix": (wider(4), "is an InstructPix2Pix model, whose UNet also takes the latents of an image"),
    "depth": (wider(1), "is a depth-to-image model"),
    "upscaler": (wider(3), "is an upscaler"),
    "another input": (wider(2), "has a UNet that takes 2 channels beside the latents"),
    "no VAE": (without(VAE), r"has no autoencoder \(VAE\)\. Give a complete checkpoint"),
    "UNet alone": (lambda whole: without(VAE)(without(TEXT)(whole)), r"has no text encoder and no autoencoder \(VAE\)"),
    "no text encoder": (without(TEXT), "has no text encoder. Give"),
    "refiner": (
        lambda whole: {**without(TEXT)(whole), "conditioner.embedders.0.model.ln_final.weight": torch.zeros(1280)},
        "is the refiner of Stable Diffusion XL",
    ),
    "one tensor missing": (without(f"{UNET}out.2.bias"), r"lacks 1 of the model's \d+ tensors, such as .*out.2.bias"),
    "other size": (extra(**{f"{UNET}out.2.bias": torch.zeros(9)}), "another layer size .* is 9, not 4. Correct"),
    "FLUX": (lambda _: {"double_blocks.0.img_attn.qkv.weight": torch.zeros(9, 3)}, "is a FLUX model"),
    "SD 3": (lambda _: {f"{UNET}joint_blocks.0.x": torch.zeros(1)}, "is a Stable Diffusion 3 model"),
    "video": (lambda _: {f"{UNET}input_blocks.1.1.time_stack.0.x": torch.zeros(1)}, "is a video model"),
    "LoRA": (lambda _: {"lora_unet_x.lora_up.weight": torch.zeros(1)}, "is a LoRA, not a base. Add it with"),
    "part of a folder": (lambda _: {"down_blocks.0.x": torch.zeros(1)}, "is one part of a diffusers folder"),
    "UNet alone without a prefix": (
        lambda whole: {k.removeprefix(UNET): t for k, t in whole.items() if k.startswith(UNET)},
        r"has no text encoder and no autoencoder \(VAE\)",
    ),
    "embedding": (lambda _: {"emb_params": torch.zeros(1, 768)}, "is an embedding, not a base"),
    "ControlNet": (lambda _: {"control_model.zero_convs.0.0.weight": torch.zeros(1)}, "is a ControlNet, not a base"),
    "EDM": (extra(**{"edm_vpred.sigma_max": torch.zeros(1)}), "was trained in the EDM formulation"),
    "others": (lambda _: {"fc.weight": torch.zeros(1)}, "no checkpoint .*: its keys look like fc.weight"),
    "empty": (lambda _: {}, "holds no tensors"),
    "NaN": (broken(f"{UNET}out.2.weight", float("nan")), "conv_out.weight of the unet in .* NaN or infinite"),
    "infinite VAE": (broken(f"{VAE}decoder.conv_out.bias", float("inf")), "conv_out.bias of the vae in .* NaN"),
    "NaN text encoder": (
        broken(f"{TEXT}text_model.final_layer_norm.bias", float("-inf")),
        "final_layer_norm.bias of the text_encoder in .* NaN or infinite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, whole_file: Path, tmp_path: Path):
    change, sentence = REFUSED[name]
    tensors = change(load_file(whole_file))
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / "model.safetensors")
    (tmp_path / "model").symlink_to(whole_file.with_suffix(""))
    with pytest.raises(StudioError, match=sentence):
        load_base(str(tmp_path / "model.safetensors"), device="cpu")


BYTES = {
    "model.ckpt": (b"PK\x03\x04", "can run any code when it is opened. Convert it to safetensors first"),
    "model.pt": (b"", "can run any code when it is opened. Convert it to safetensors first"),
    "renamed.safetensors": (b"PK\x03\x04..", "is a pickle file, which can run any code"),
    "model.gguf": (b"GGUF" + bytes(99), "is a GGUF file, which is not supported"),
    "notes.txt": (b"x", "is no checkpoint. Give a .safetensors file"),
    "lfs.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265146304\n", "Git LFS"),
    "page.safetensors": (b"<!DOCTYPE html>", "is a web page, not weights"),
    "empty.safetensors": (b"", "is truncated, or not a safetensors file"),
    "noise.safetensors": (b"12345678", "is truncated, or not a safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_no_checkpoint(name: str, tmp_path: Path):
    data, sentence = BYTES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StudioError, match=sentence):
        load_base(str(tmp_path / name), device="cpu")


@pytest.mark.parametrize("kept", [0.5, 0.01])
def test_a_truncated_file_names_the_missing_bytes(kept: float, whole_file: Path, tmp_path: Path):
    data = whole_file.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(StudioError, match=r"cut.safetensors is truncated: the last [\d,]+ bytes are missing"):
        load_base(str(tmp_path / "cut.safetensors"), device="cpu")


PREDICTIONS = {
    "nothing said": ({}, {}, ("epsilon", False)),
    "v_pred": ({"v_pred": torch.tensor([])}, {}, ("v_prediction", False)),
    "v_pred and ztsnr": ({"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}, {}, ("v_prediction", True)),
    "modelspec v": ({}, {"modelspec.prediction_type": "v"}, ("v_prediction", False)),
    "modelspec in capitals": ({}, {"modelspec.prediction_type": " V_prediction "}, ("v_prediction", False)),
    "modelspec epsilon": ({}, {"modelspec.prediction_type": "epsilon"}, ("epsilon", False)),
    "modelspec of another meaning": ({}, {"modelspec.prediction_type": "?"}, ("epsilon", False)),
    "modelspec architecture": ({}, {"modelspec.architecture": "stable-diffusion-v2-768-v"}, ("v_prediction", False)),
    "sd-scripts": ({}, {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, ("v_prediction", True)),
    "sd-scripts without": ({}, {"ss_v_parameterization": "False", "ss_zero_terminal_snr": "None"}, ("epsilon", False)),
}


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"])
@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_prediction_type_and_zero_terminal_snr(name: str, scheduler: str, whole_file: Path, tmp_path: Path):
    keys, metadata, (prediction_type, zero_snr) = PREDICTIONS[name]
    save_file({**load_file(whole_file), **keys}, tmp_path / "model.safetensors", metadata)
    shutil.copytree(whole_file.with_suffix(""), tmp_path / "model")
    for file in (tmp_path / "model/scheduler/scheduler_config.json", tmp_path / "model/model_index.json"):
        text = file.read_text().replace("v_prediction", "epsilon").replace("DDIMScheduler", scheduler)
        file.write_text(text)
    config = load_base(str(tmp_path / "model.safetensors"), device="cpu").pipeline.scheduler.config
    assert (config["prediction_type"], config.get("rescale_betas_zero_snr", False)) == (prediction_type, zero_snr)
    assert not zero_snr or config["timestep_spacing"] == "trailing"


@pytest.mark.parametrize(("prediction_type", "latents"), [(None, 96), ("v_prediction", 96), ("epsilon", 64)])
def test_a_model_of_2_x_that_predicts_the_noise_has_512_pixels(
    prediction_type: str | None, latents: int, tmp_path: Path
):
    write_configurations("sd21", tmp_path, prediction_type)
    assert json.loads((tmp_path / "unet/config.json").read_text())["sample_size"] == latents


def test_without_configurations_of_its_sizes_it_says_where_to_put_them(whole_file: Path, tmp_path: Path):
    shutil.copy(whole_file, tmp_path / "model.safetensors")
    with pytest.raises(StudioError, match=r"another layer size .* Put a diffusers folder .* beside it, as model/"):
        load_base(str(tmp_path / "model.safetensors"), device="cpu")


CONFIGURATIONS = {
    "no JSON": ("unet/config.json", b"{bad", "unet/config.json in .* is not JSON in UTF-8"),
    "UTF-16": ("scheduler/scheduler_config.json", "{}".encode("utf-16"), "scheduler_config.json in .* is not JSON"),
    "a list": ("vae/config.json", b"[]", "vae/config.json in .* is not a JSON object"),
    "an invalid value": ("vae/config.json", b'{"norm_num_groups": "x"}', "vae/config.json .* missing or invalid"),
    "another family": ("model_index.json", b'{"_class_name": "StableDiffusionXLPipeline"}', "not Stable Diffusion XL"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_beside_it_that_cannot_be_read(name: str, whole_file: Path, tmp_path: Path):
    file, data, sentence = CONFIGURATIONS[name]
    shutil.copy(whole_file, tmp_path / "model.safetensors")
    shutil.copytree(whole_file.with_suffix(""), tmp_path / "model")
    (tmp_path / "model" / file).write_bytes(data)
    with pytest.raises(StudioError, match=sentence):
        load_base(str(tmp_path / "model.safetensors"), device="cpu")


def test_configurations_with_a_byte_order_mark_are_read(whole_file: Path, tmp_path: Path):
    shutil.copy(whole_file, tmp_path / "model.safetensors")
    shutil.copytree(whole_file.with_suffix(""), tmp_path / "model")
    for file in (tmp_path / "model").rglob("*.json"):
        file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert load_base(str(tmp_path / "model.safetensors"), device="cpu").side == 16
