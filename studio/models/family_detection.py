"""The family of a base that is not loaded, by its configuration or its file's header."""

from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline, UNet2DConditionModel

from concepts.errors import StudioError
from studio.hub_access import hub_access
from studio.models.checkpoints.folder import is_xl, pipeline_of
from studio.models.checkpoints.json_files import read_json
from studio.models.families import OTHER, Family, family_of_sizes
from studio.models.loading import libraries_silent

_TO_KEY = ".attn2.to_k.weight"


def family_of_source(source: str) -> Family:
    """The family of a base, given as for `load_base`. Raises StudioError where it cannot be told."""
    place = Path(source)
    if source == "toybox":
        return OTHER
    if place.is_dir():
        xl, _ = pipeline_of(place, place)
        return family_of_sizes(xl, read_json(place / "unet" / "config.json", place).get("cross_attention_dim"))
    return _of_file(place) if place.is_file() else _on_hub(source)


def _of_file(path: Path) -> Family:
    from studio.models.checkpoints.kinds import family_of_keys
    from studio.models.single_file import read_checkpoint_header

    shapes = read_checkpoint_header(path).shapes
    architecture = family_of_keys(path.name, shapes)
    widths = (shape[-1] for key, shape in shapes.items() if key.endswith(_TO_KEY) and len(shape) == 2)
    return family_of_sizes(architecture == "sdxl", next(widths, None))


@hub_access()
def _on_hub(source: str) -> Family:
    """By the configurations alone, which are downloaded."""
    try:
        with libraries_silent():
            index: Any = DiffusionPipeline.load_config(source)
            unet: Any = UNet2DConditionModel.load_config(source, subfolder="unet")
        return family_of_sizes(is_xl(index["_class_name"]), unet.get("cross_attention_dim"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudioError(
            f"No base could be loaded from {source!r}. Give --base toybox, a diffusers folder, a .safetensors "
            "checkpoint or a Hugging Face Hub model ID."
        ) from error
