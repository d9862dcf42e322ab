"""kohya's layout, for ComfyUI, A1111 and Forge, with LyCORIS' further algorithms."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from studio.formats.layer_names import kohya_names
from studio.formats.lora_approximation import LoraApproximation
from studio.formats.other_families import other_family
from studio.formats.safe_reading import printable
from studio.formats.safetensors_bytes import safetensors_bytes
from studio.layers.target_modules import Site
from studio.models.families import FAMILIES, OTHER, Family


def kohya_tensors(plain: LoraApproximation, sites: Mapping[str, Site], family: Family) -> dict[str, Tensor]:
    """A plain LoRA's tensors by key; a convolution's factors have its kernel.

    Alpha is the highest rank in all layers, also where a layer's own is lower: diffusers ignores, for attention layers,
    all but the most common alpha of a file. `sites` are all of the base's matrices, from which SDXL's names follow.
    This layout cannot store biases.
    """
    names, tensors = kohya_names(sites, family), {}
    alpha = max((low_rank.rank for low_rank in plain.factors.values()), default=0)
    for name, low_rank in plain.factors.items():
        up, down, module = low_rank.up * (low_rank.rank / alpha), low_rank.down, sites[name].module
        if isinstance(module, nn.Conv2d):
            up, down = up[:, :, None, None], down.unflatten(1, module.weight.shape[1:])
        tensors[f"{names[name]}.lora_down.weight"] = down
        tensors[f"{names[name]}.lora_up.weight"] = up
        tensors[f"{names[name]}.alpha"] = torch.tensor(float(alpha))
    return tensors


def kohya_bytes(
    tensors: Mapping[str, Tensor], rank: int, family: Family, prediction: str, metadata: Mapping[str, str]
) -> bytes:
    """The file, with the metadata that sd-scripts writes, its hashes, and modelspec's; `metadata` is added to it."""
    training = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(rank)),
        "ss_network_args": json.dumps({"conv_dim": rank} if any(t.ndim == 4 for t in tensors.values()) else {}),
    }
    return network_bytes(tensors, training, "lora", family, prediction, metadata)


def network_bytes(
    tensors: Mapping[str, Tensor],
    network: Mapping[str, str],
    kind: str,
    family: Family,
    prediction: str,
    metadata: Mapping[str, str],
) -> bytes:
    """A file of this kind ("lora" or "lycoris"), with its family's metadata, its hashes and modelspec's."""
    training = {
        "ss_v2": str(family.kohya_version == "sd_v2"), "ss_base_model_version": family.kohya_version, **network
    }  # fmt: skip
    specification = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{family.architecture}/{kind}",
        "modelspec.implementation": "diffusers",
        "modelspec.prediction_type": "v" if prediction == "v_prediction" else "epsilon",
    }
    hashes = network_hashes(tensors, training)
    return safetensors_bytes(tensors, {**training, **specification, **hashes, **metadata})


def network_hashes(tensors: Mapping[str, Tensor], training: Mapping[str, str]) -> dict[str, str]:
    """sd-scripts' hashes of a file with these tensors; the legacy one depends on the ss_… metadata, `training`, too."""
    hashed = safetensors_bytes(tensors, training)
    return {"sshs_model_hash": _tensor_hash(hashed), "sshs_legacy_hash": _legacy_hash(hashed)}


def _tensor_hash(data: bytes) -> str:
    """sha256 of the data after the header, as in sd-scripts and A1111's additional networks."""
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


def _legacy_hash(data: bytes) -> str:
    """A1111's legacy model hash: the first eight digits of the sha256 of 64 KiB from 1 MiB on."""
    return hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]


def check_family(metadata: Mapping[str, str], family: Family) -> None:
    """Raise StudioError where a file's metadata names another family than the base's."""
    version = metadata.get("ss_base_model_version", "")
    architecture = metadata.get("modelspec.architecture", "")
    named = next((known for known in FAMILIES if _names(known, version, architecture)), None)
    if named is not None and named is not family and family is not OTHER:
        raise other_family(named.title, family)


def _names(family: Family, version: str, architecture: str) -> bool:
    short = family.kohya_version.split("_base")[0]
    return (bool(version) and version.startswith(short)) or (
        bool(architecture) and architecture.startswith(family.architecture)
    )


def description(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The descriptive entries of a file's metadata, in one line of printable characters each."""
    kept = ("ss_output_name", "ss_base_model_version", "modelspec.title", "modelspec.trigger_phrase")
    return {key: printable(metadata[key]) for key in kept if key in metadata}
