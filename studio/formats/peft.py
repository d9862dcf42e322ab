"""PEFT's layout: a folder for each part of the model, with its configuration and its tensors."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor

from concepts.errors import StudioError
from studio.formats.adapter_file import gather
from studio.formats.adapter_keys import split_key
from studio.formats.diffusers import peft_factors
from studio.formats.imported_layer import Layer
from studio.formats.layer_places import LayerPlaces
from studio.formats.lora_approximation import LoraApproximation
from studio.formats.other_families import refuse_other_kinds
from studio.formats.peft_config import configure
from studio.formats.safe_reading import printable, read_json, read_tensors
from studio.formats.safetensors_bytes import safetensors_bytes
from studio.layers.target_modules import Site
from studio.models.families import Family

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
KNOWN = ("LORA", "LOHA", "LOKR", "OFT", "GLORA", "IA3")


def write_peft(
    plain: LoraApproximation, sites: Mapping[str, Site], folder: Path, base_name: str, dtype: torch.dtype | None = None
) -> None:
    """Writes a folder for each adapted part, for `PeftModel.from_pretrained(pipeline.unet, folder / "unet")`.

    Layers have the names of the installed transformers' modules. `folder` exists and is empty.
    """
    for part in dict.fromkeys(sites[name].part for name in plain.factors):
        own = {name: low_rank for name, low_rank in plain.factors.items() if sites[name].part == part}
        ranks = {name.removeprefix(f"{part}."): low_rank.rank for name, low_rank in own.items()}
        usual = max(ranks.values())
        other = {path: rank for path, rank in ranks.items() if rank != usual}
        biased = any(name in plain.biases for name in own)
        config = LoraConfig(
            r=usual, lora_alpha=usual, target_modules=list(ranks), rank_pattern=dict(other),
            alpha_pattern=dict(other), lora_bias=biased, base_model_name_or_path=base_name,
            inference_mode=True,
        )  # fmt: skip
        config.save_pretrained(str(folder / part))
        tensors: dict[str, Tensor] = {}
        for name, low_rank in own.items():
            key = f"{PREFIX}{name.removeprefix(f'{part}.')}"
            tensors[f"{key}.lora_A.weight"], tensors[f"{key}.lora_B.weight"] = peft_factors(sites[name], low_rank)
            if biased:
                tensors[f"{key}.lora_B.bias"] = plain.biases.get(name, torch.zeros(len(low_rank.up)))
        (folder / part / TENSOR_FILE).write_bytes(safetensors_bytes(tensors, {"format": "pt"}, dtype))


def peft_folders(folder: Path) -> list[Path]:
    """The folder itself, or its subfolders, that PEFT wrote."""
    return sorted(config.parent for pattern in (CONFIG_FILE, f"*/{CONFIG_FILE}") for config in folder.glob(pattern))


def peft_layers(folder: Path, sites: Mapping[str, Site], family: Family) -> dict[str, Layer]:
    """The layers, by the base's site names, of a folder that PEFT wrote, or of its subfolders.

    Raises StudioError for other methods than LoRA, LoHa, LoKr, OFT, GLoRA and (IA)³, for a configuration that is
    invalid, and for keys of no layer.
    """
    places = LayerPlaces(sites, family)
    layers: dict[str, Layer] = {}
    for own in peft_folders(folder):
        found = _part_layers(own, places, family)
        if twice := next((layer.key for name, layer in found.items() if name in layers), None):
            raise StudioError(f"{folder} has the layer {twice} in two folders. Give one of them.")
        layers |= found
    return layers


def check_folder(folder: Path) -> None:
    """Raises StudioError for a folder that PEFT did not write."""
    if not peft_folders(folder):
        raise StudioError(f"{folder} has no {CONFIG_FILE}. Give a .safetensors file, or a folder that PEFT wrote.")


def refuse_part_of_folder(name: str, keys: Iterable[str]) -> None:
    """Raises StudioError for a file of a PEFT folder alone, which lacks its configuration."""
    if any(key.startswith(PREFIX) for key in keys):
        raise StudioError(f"{name} is a part of a PEFT folder and needs {CONFIG_FILE} beside it. Give the folder.")


def read_part(folder: Path, known: Iterable[str] = KNOWN) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str]]:
    """The configuration, the tensors and their metadata in a folder of one part.

    Raises StudioError for a PEFT type that is not `known`, for pickles, and for files that cannot be read.
    """
    config = read_json(folder / CONFIG_FILE)
    if str(config.get("peft_type")) not in known:
        raise StudioError(
            f"The PEFT type {printable(config.get('peft_type'))} of {folder} is not supported here. Supported are "
            f"{', '.join(known)}."
        )
    if not (folder / TENSOR_FILE).exists():
        pickle = "its adapter_model.bin is a pickle, which can run any code when it is opened"
        raise StudioError(
            f"{folder} has no {TENSOR_FILE}{f', and {pickle}' if (folder / 'adapter_model.bin').exists() else ''}. "
            "Save it with PEFT's save_pretrained(safe_serialization=True)."
        )
    tensors, metadata = read_tensors(folder / TENSOR_FILE)
    refuse_other_kinds(TENSOR_FILE, tensors)
    return config, tensors, metadata


def _part_layers(folder: Path, places: LayerPlaces, family: Family) -> dict[str, Layer]:
    config, stored, _ = read_part(folder)
    tensors = {key.removeprefix(PREFIX): tensor for key, tensor in stored.items()}
    part = _part(folder.name, tensors, places)
    return gather(
        f"{folder.name}/{TENSOR_FILE}",
        tensors,
        lambda module: places.find_below(part, module),
        lambda layer, _: configure(layer, layer.key, config),
        family,
    )


def _part(name: str, keys: Iterable[str], places: LayerPlaces) -> str:
    """The part that the tensors adapt: by the folder's name, else the one that has most of their layers."""
    modules = [split_key(key)[0] for key in keys]
    if name in places.parts:
        return name
    return max(places.parts, key=lambda part: sum(places.find_below(part, module) is not None for module in modules))
