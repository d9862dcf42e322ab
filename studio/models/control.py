"""Control by a sketch, a pose or a depth map, with diffusers' T2IAdapter and ControlNet models."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, T2IAdapter
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image
from torch import Tensor

from concepts.errors import StudioError
from studio.hub_access import hub_access
from studio.models.base_model import Base
from studio.models.families import SDXL, family_of
from studio.models.loading import libraries_silent

_CLASSES: dict[str, Any] = {"T2IAdapter": T2IAdapter, "ControlNetModel": ControlNetModel}


@dataclass(frozen=True)
class ControlCondition:
    """A control image, its model, and the conditioning scale; 1 is as the model was trained."""

    picture: Image.Image
    model: ModelMixin
    strength: float = 1.0


@hub_access()
def load_control_model(base: Base, source: str) -> ModelMixin:
    """A T2IAdapter or ControlNet for this base, from a folder or the hub.

    Raises StudioError for anything else, and for a model of another family than the base's.
    """
    try:
        with libraries_silent():
            config: Any = T2IAdapter.load_config(source)
            model = _CLASSES[config["_class_name"]].from_pretrained(source, torch_dtype=torch.float32)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudioError(
            f"{source!r} is not a T2I-Adapter or ControlNet. Give one as a folder or a Hugging Face Hub model ID."
        ) from error
    _check(base, model, Path(source).name)
    return model.requires_grad_(False).eval().to(base.device)


def _check(base: Base, model: Any, name: str) -> None:
    """Raise StudioError unless the model's layers are as wide as the UNet's, and made for its family."""
    unet, config, family = base.pipeline.unet.config, model.config, family_of(base.parts)
    if isinstance(model, ControlNetModel):
        widths, fits = list(config.block_out_channels), config.cross_attention_dim == unet.cross_attention_dim
    else:
        widths, fits = list(config.channels), (config.adapter_type == "full_adapter_xl") == (family is SDXL)
    if widths[: len(unet.block_out_channels)] != list(unet.block_out_channels) or not fits:
        raise StudioError(f"The control model {name} is for another base. Give one for {family.title}.")


@contextmanager
def with_control(
    base: Base, conditions: Sequence[ControlCondition], size: tuple[int, int] | None = None
) -> Iterator[None]:
    """While open, generation of images of this width and height uses these conditions, together with regions and
    concepts; without a size, of the base's own square.

    A ControlNet gets the whole picture's prompt, which comes first where there are regions, and the first layer's part
    of a context by layer.
    """
    with ExitStack() as undo:
        for condition in conditions:
            signal = _signal(base, condition, size or (base.side, base.side))
            is_net = isinstance(condition.model, ControlNetModel)
            hook = _control_net(base, condition, signal) if is_net else _t2i_adapter(condition, signal)
            handle = base.pipeline.unet.register_forward_pre_hook(hook, with_kwargs=True)
            undo.callback(handle.remove)
        yield


def _signal(base: Base, condition: ControlCondition, size: tuple[int, int]) -> Tensor:
    """The picture at this width and height as (1, channels, height, width), 0 to 1; grey where the model has one
    channel.
    """
    config: Any = condition.model.config
    grey = getattr(config, "in_channels", 3) == 1 and not isinstance(condition.model, ControlNetModel)
    picture = condition.picture.convert("L" if grey else "RGB")
    fitted = picture.resize(size, Image.Resampling.LANCZOS)
    levels = torch.from_numpy(np.array(fitted)).to(base.device, torch.float32) / 255
    return levels[None, None] if grey else levels.permute(2, 0, 1)[None]


def _t2i_adapter(condition: ControlCondition, signal: Tensor) -> Any:
    """A hook of the UNet that adds the adapter's features, computed once, to its down blocks."""
    model: Any = condition.model
    with torch.no_grad():
        features = [condition.strength * feature for feature in model(signal)]

    def add(_unet: Any, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        batch = len(inputs[0])
        own = [feature.repeat(batch, 1, 1, 1) for feature in features]
        return inputs, {**options, "down_intrablock_additional_residuals": _summed(options, own)}

    return add


def _summed(options: dict[str, Any], own: list[Tensor]) -> list[Tensor]:
    """These residuals plus those of another condition, if there are any."""
    others = options.get("down_intrablock_additional_residuals")
    return own if others is None else [one + other for one, other in zip(own, others, strict=True)]


def _control_net(base: Base, condition: ControlCondition, signal: Tensor) -> Any:
    """A hook of the UNet that runs the ControlNet on the UNet's inputs and adds its residuals."""
    model: Any = condition.model

    def add(_unet: Any, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        sample, timestep = inputs[:2]
        first = base.pipeline.unet.config.cross_attention_dim
        context = options["encoder_hidden_states"][:, : base.pipeline.tokenizer.model_max_length, :first]
        down, middle = model(
            sample,
            timestep,
            encoder_hidden_states=context,
            controlnet_cond=signal.repeat(len(sample), 1, 1, 1),
            conditioning_scale=condition.strength,
            added_cond_kwargs=options.get("added_cond_kwargs"),
            return_dict=False,
        )
        others, other = options.get("down_block_additional_residuals"), options.get("mid_block_additional_residual")
        down = down if others is None else [one + two for one, two in zip(down, others, strict=True)]
        middle = middle if other is None else middle + other
        return inputs, {**options, "down_block_additional_residuals": down, "mid_block_additional_residual": middle}

    return add
