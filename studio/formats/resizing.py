"""Changes the rank of a LoRA file, without its base model."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from concepts.errors import StudioError
from studio.formats.adapter_file import ADAPTER_METADATA, file_configs, option_of
from studio.formats.kohya import network_hashes
from studio.formats.other_families import refuse_other_kinds
from studio.formats.peft import (
    CONFIG_FILE,
    PREFIX,
    TENSOR_FILE,
    check_folder,
    peft_folders,
    read_part,
    refuse_part_of_folder,
)
from studio.formats.peft_config import with_ranks
from studio.formats.plain_files import DTYPES, check_free, check_output, complete
from studio.formats.resized_layers import ResizedLayers, path_in
from studio.formats.safe_reading import json_object, read_tensors
from studio.formats.safetensors_bytes import safetensors_bytes
from studio.layers.rank_choice import RankChoice

OnLayer = Callable[[int, int], None]


@dataclass(frozen=True)
class Resized:
    """The written file or folder, and each LoRA layer's rank before and after, by its name in the file.

    `error` is the relative error of the written layers, in the Frobenius norm over all of them with their scales, and
    `energy` the fraction of the sum of their squared singular values that is kept. `others` counts the layers' tensors
    that are no LoRA, which are unchanged, and `magnitudes` the layers with DoRA's magnitudes, which are unchanged too.
    """

    path: Path
    former: dict[str, int]
    ranks: dict[str, int]
    error: float
    energy: float
    others: int = 0
    magnitudes: int = 0

    @property
    def rank(self) -> int:
        """The largest rank of a layer."""
        return max(self.ranks.values())


@torch.no_grad()
def resize_lora(
    source: Path | str,
    output: Path | str,
    ranks: RankChoice,
    dtype: str | None = None,
    on_layer: OnLayer = lambda _done, _all: None,
) -> Resized:
    """Write a LoRA with other ranks: each layer's product up (out, r) @ down (r, in) becomes its nearest product of the
    chosen rank, by singular value decomposition. A layer whose rank is no higher is left as it is.

    `source` is a .safetensors file in any layout that `studio import` reads as LoRA or LoCon, of any model, or a folder
    that PEFT wrote, and `output` is of the same kind. Alphas stay, so the factors also absorb the change of alpha /
    rank; `dtype` is the file's if None. Raises StudioError for another kind of file or adapter, for an invalid file,
    and for an output that exists; nothing is written then.
    """
    source, output = Path(source), Path(output)
    check_output("peft" if source.is_dir() else "kohya", output, dtype or "float32")
    check_free(output)
    wanted = None if dtype is None else DTYPES[dtype] or torch.float32
    if source.is_dir():
        return _resize_folder(source, output, ranks, wanted, on_layer)
    tensors, metadata = read_tensors(source)
    refuse_other_kinds(source.name, tensors)
    refuse_part_of_folder(source.name, tensors)
    layers = ResizedLayers(source.name, tensors, file_configs(source.name, metadata))
    layers.resize(ranks, wanted, on_layer)
    changed = _file_metadata(metadata, layers, ranks)
    with complete(output) as place:
        place.write_bytes(safetensors_bytes(layers.tensors, changed))
    return _summary(output, {"": layers})


def _summary(output: Path, by_folder: Mapping[str, ResizedLayers]) -> Resized:
    files = by_folder.values()
    whole = sum(file.whole for file in files)
    return Resized(
        output,
        {f"{folder}{name}": rank for folder, file in by_folder.items() for name, rank in file.former.items()},
        {f"{folder}{name}": rank for folder, file in by_folder.items() for name, rank in file.ranks.items()},
        (sum(file.lost for file in files) / whole) ** 0.5 if whole else 0.0,
        sum(file.kept for file in files) / whole if whole else 1.0,
        sum(file.others for file in files),
        sum(file.magnitudes for file in files),
    )


def _resize_folder(
    source: Path, output: Path, ranks: RankChoice, dtype: torch.dtype | None, on_layer: OnLayer
) -> Resized:
    check_folder(source)
    parts = []
    for own in peft_folders(source):
        config, tensors, metadata = read_part(own, ("LORA",))
        layers = ResizedLayers(str(own.relative_to(source) / TENSOR_FILE), tensors, {"": config})
        layers.resize(ranks, dtype, on_layer)
        parts.append((own.relative_to(source), config, metadata, layers))
    with complete(output) as place:
        for folder, config, metadata, layers in parts:
            (place / folder).mkdir(parents=True, exist_ok=True)
            below = {name.removeprefix(PREFIX): rank for name, rank in layers.ranks.items()}
            text = json.dumps(with_ranks(config, below), indent=2, sort_keys=True)
            (place / folder / CONFIG_FILE).write_text(text)
            (place / folder / TENSOR_FILE).write_bytes(safetensors_bytes(layers.tensors, metadata))
    return _summary(output, {f"{folder}/": layers for folder, *_, layers in parts})


def _file_metadata(metadata: Mapping[str, str], layers: ResizedLayers, ranks: RankChoice) -> dict[str, str]:
    """The file's metadata with the new ranks, in each form that it has."""
    of_part: dict[str, dict[str, int]] = {part: {} for part in layers.configs}
    for module, rank in layers.ranks.items():
        part, path = path_in(module, layers.configs)
        of_part.setdefault(part, {})[path] = rank
    if ADAPTER_METADATA in metadata:
        configs = {part: with_ranks(config, of_part[part]) for part, config in layers.configs.items()}
        flat = {f"{part}.{key}" if part else key: value for part, own in configs.items() for key, value in own.items()}
        changed = {**metadata, ADAPTER_METADATA: json.dumps(flat, indent=2, sort_keys=True)}
    else:
        changed = _with_rank_entries(metadata, of_part)
    if any(key.startswith("ss_") for key in metadata):
        changed |= _network_metadata(metadata, layers, ranks)
        changed |= network_hashes(layers.tensors, {key: text for key, text in changed.items() if key[:3] == "ss_"})
    return changed


def _with_rank_entries(metadata: Mapping[str, str], of_part: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """Ranks that stand in the metadata by themselves; left out where the layers have different ones."""
    changed = {}
    for key, text in metadata.items():
        part, option = option_of(key)
        own = set(of_part.get(part, {}).values()) if option == "r" else set()
        if len(own) < 2:
            changed[key] = str(own.pop()) if own else text
    return changed


def _network_metadata(metadata: Mapping[str, str], layers: ResizedLayers, ranks: RankChoice) -> dict[str, str]:
    """sd-scripts' entries, as its resize_lora.py writes them; alphas stay."""
    former, rank = max(layers.former.values()), max(layers.ranks.values())
    said = f"to {rank}" if ranks.method is None else f"by {ranks.method} {ranks.parameter}"
    comment = metadata.get("ss_training_comment", "")
    changed = {
        "ss_network_dim": str(rank) if ranks.method is None else "Dynamic",
        "ss_training_comment": f"dimension is resized from {former} {said}; {comment}",
    }
    try:
        arguments = json_object(metadata.get("ss_network_args", "{}"), "ss_network_args")
    except StudioError:  # nothing depends on it
        return changed
    if "conv_dim" in arguments and layers.conv_ranks:
        changed["ss_network_args"] = json.dumps({**arguments, "conv_dim": max(layers.conv_ranks)})
    return changed
