"""Reads a checkpoint's weights one by one, so that a model need not fit into memory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.bundled import TOYBOX
from studio.formats.single_file_keys import stored_tensors
from studio.models.checkpoints.completeness import meta_model, present_key
from studio.models.checkpoints.folder import check_folder, weight_files
from studio.models.checkpoints.json_files import read_json
from studio.models.checkpoints.key_names import full_key
from studio.models.checkpoints.links import as_diffusers_reads
from studio.models.checkpoints.prediction import prediction_type_of
from studio.models.families import Family, family_of
from studio.models.single_file import checked_configurations

_ADAPTED = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class LazyCheckpoint:
    """A checkpoint of Stable Diffusion whose files are open: `parts`, its UNet and text encoders without weights (on
    the meta device), and what its UNet predicts, in diffusers' terms.
    """

    name: str
    parts: dict[str, nn.Module]
    prediction: str
    read: Callable[[str, str], Tensor]

    @property
    def family(self) -> Family:
        """The family of Stable Diffusion that it belongs to."""
        return family_of(self.parts)

    @cached_property
    def shapes(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """The shape of every tensor by part and key."""
        return {
            (part, key): tuple(tensor.shape)
            for part, module in self.parts.items()
            for key, tensor in module.state_dict().items()
        }

    def tensor(self, part: str, key: str) -> Tensor:
        """One tensor of a part, float32, in the model's shape. Raises StudioError for one that is not finite."""
        found = self.read(part, key).float().reshape(self.shapes[part, key])
        if not found.isfinite().all():
            raise StudioError(
                f"{key} of the {part} in {self.name} has values that are NaN or infinite. Get another copy, or another "
                "checkpoint."
            )
        return found


@contextmanager
def open_lazily(source: str) -> Iterator[LazyCheckpoint]:
    """The bundled checkpoint for "toybox", else one of Stable Diffusion 1.x, 2.x or XL in a diffusers folder or a
    .safetensors file, as `studio.models.loading.open_pipeline` takes them.

    Raises StudioError, with the reason, for anything else, and for weights that are pickles.
    """
    place = TOYBOX if source == "toybox" else Path(source)
    with ExitStack() as stack:
        if place.is_dir():
            yield _open_folder(stack, place, source)
        elif place.is_file():
            yield _open_file(stack, place)
        else:
            raise StudioError(f"There is no checkpoint {source}. Give a diffusers folder or a .safetensors file.")


def _open_folder(stack: ExitStack, place: Path, name: str) -> LazyCheckpoint:
    folder = stack.enter_context(as_diffusers_reads(place))
    check_folder(folder, place)
    parts = _parts(folder)
    held = {part: _keys(stack, part, weight_files(folder, part, place)) for part in parts}
    if pickled := [part for part in parts if not held[part]]:
        raise StudioError(
            f"The weights of the {pickled[0]} in {place} are a pickle, which can run any code when it is opened. "
            "Convert them to safetensors first."
        )

    def read(part: str, key: str) -> Tensor:
        file, stored = held[part][present_key(key)]
        return file.get_tensor(stored)

    return LazyCheckpoint(name, parts, _prediction(folder), read)


def _keys(stack: ExitStack, part: str, files: list[Path]) -> dict[str, tuple[Any, str]]:
    """The open file and the stored key of every tensor of a part."""
    opened = [stack.enter_context(safe_open(file, "pt")) for file in files]
    return {present_key(key): (file, key) for file in opened for key in file.keys()}  # noqa: SIM118 (no dict)


def _open_file(stack: ExitStack, path: Path) -> LazyCheckpoint:
    header, _, configurations = stack.enter_context(checked_configurations(path))
    parts = _parts(configurations)
    places, file = stored_tensors(SimpleNamespace(**parts)), stack.enter_context(safe_open(path, "pt"))
    held = {full_key(key): key for key in file.keys()}  # noqa: SIM118 (no dict)

    def read(part: str, key: str) -> Tensor:
        place = places[part][key]
        return place.of(file.get_tensor(held[place.key]))

    return LazyCheckpoint(path.name, parts, prediction_type_of(header) or _prediction(configurations), read)


def _parts(folder: Path) -> dict[str, nn.Module]:
    return {part: meta_model(folder, part) for part in _ADAPTED if (folder / part / "config.json").is_file()}


def _prediction(folder: Path) -> str:
    config: Mapping[str, Any] = read_json(folder / "scheduler" / "scheduler_config.json", folder)
    return str(config.get("prediction_type", "epsilon"))
