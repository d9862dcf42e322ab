"""Compares the keys and shapes of checkpoints with those that their configurations ask for, without reading tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from concepts.errors import StudioError
from studio.models.checkpoints.json_files import read_json

Shapes = Mapping[str, tuple[int, ...]]
MODELS = ("unet", "vae", "text_encoder", "text_encoder_2")
"""The parts of a pipeline that have weights."""
_FORMER_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""The names of an autoencoder's attention before diffusers 0.18, which diffusers still reads."""


def check_part(folder: Path, part: str, shapes: Shapes, shown: Path) -> None:
    """Raises StudioError for weights in a diffusers folder, called `shown`, that do not fit their configuration."""
    expected = {key: tuple(tensor.shape) for key, tensor in meta_model(folder, part).state_dict().items()}
    compare(str(shown / part), {present_key(key): shape for key, shape in shapes.items()},
             {present_key(key): shape for key, shape in expected.items()}, "Get a complete copy.")  # fmt: skip


def present_key(key: str) -> str:
    """A key of transformers without "text_model.", and of an autoencoder by its present name."""
    words = key.removeprefix("text_model.").split(".")
    if len(words) > 1 and words[-2] in _FORMER_ATTENTION:
        words[-2] = _FORMER_ATTENTION[words[-2]]
    return ".".join(words)


def compare(name: str, shapes: Shapes, expected: Shapes, advice: str) -> None:
    """Raises StudioError for a tensor of another shape than expected, which ends in `advice`, and for a missing one."""
    for key, shape in expected.items():
        if key in shapes and _squeezed(shapes[key]) != _squeezed(shape):
            raise StudioError(
                f"{name} has another layer size than its configuration: {key} is {_written(shapes[key])}, not "
                f"{_written(shape)}. {advice}"
            )
    if missing := [key for key in expected if key not in shapes]:
        raise StudioError(
            f"{name} lacks {len(missing)} of the model's {len(expected)} tensors, such as {missing[0]}. Get a complete "
            "copy."
        )


def meta_model(configurations: Path, part: str) -> nn.Module:
    """The model of a part on the meta device. Raises StudioError for a configuration that there is no model of."""
    config: Any = read_json(configurations / part / "config.json", configurations)
    kinds = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    try:
        with torch.device("meta"):
            if part in kinds:
                return kinds[part](CLIPTextConfig(**config))
            model: Any = (UNet2DConditionModel if part == "unet" else AutoencoderKL).from_config(config)
            return model
    except Exception as error:  # the libraries raise errors of many kinds
        raise StudioError(
            f"{part}/config.json in {configurations} has a value that is missing or invalid. Get a complete copy."
        ) from error


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the kernel of a 1x1 convolution, which files also hold as a matrix."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
