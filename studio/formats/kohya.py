"""kohya's layout, for ComfyUI, A1111 and Forge, with LyCORIS' further algorithms."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.formats.imported_layer import Layer
from studio.formats.layer_names import field_path, kohya_names
from studio.formats.lora_approximation import LoraApproximation
from studio.formats.safetensors_bytes import safetensors_bytes
from studio.layers.target_modules import Site
from studio.models.families import FAMILIES, OTHER, SDXL, Family

_ROLES = {
    "lora_up.weight": ("lora", "up"),
    "lora_down.weight": ("lora", "down"),
    "lora_mid.weight": ("lora", "mid"),
    **{f"hada_{role}": ("loha", role) for role in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{role}": ("lokr", role) for role in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    "oft_blocks": ("output_oft", "blocks"),
    "rescale": ("output_oft", "rescale"),
    "diff": ("difference", "weight"),
    "w_norm": ("difference", "weight"),
    "diff_b": ("bias", "bias"),
    "b_norm": ("bias", "bias"),
}
_PREFIXES = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lycoris_")


def is_kohya(keys: list[str]) -> bool:
    """Whether a file's keys are of this layout."""
    return any(key.startswith(_PREFIXES) for key in keys)


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
    hashed = safetensors_bytes(tensors, training)
    specification = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{family.architecture}/{kind}",
        "modelspec.implementation": "diffusers",
        "modelspec.prediction_type": "v" if prediction == "v_prediction" else "epsilon",
    }
    hashes = {"sshs_model_hash": _tensor_hash(hashed), "sshs_legacy_hash": _legacy_hash(hashed)}
    return safetensors_bytes(tensors, {**training, **specification, **hashes, **metadata})


def _tensor_hash(data: bytes) -> str:
    """sha256 of the data after the header, as in sd-scripts and A1111's additional networks."""
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


def _legacy_hash(data: bytes) -> str:
    """A1111's legacy model hash: the first eight digits of the sha256 of 64 KiB from 1 MiB on."""
    return hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]


def kohya_layers(tensors: Mapping[str, Tensor], sites: Mapping[str, Site], family: Family) -> dict[str, Layer]:
    """A file's layers by the base's site names. Raises StudioError for keys of no layer or of no known kind."""
    places = {kohya: name for name, kohya in kohya_names(sites, family).items()}
    for name, site in sites.items():  # SDXL's UNet by diffusers' names too, modules by theirs, LyCORIS' own prefix
        for path in (field_path(site), name.removeprefix(f"{site.part}.")):
            flat = path.replace(".", "_")
            places.setdefault(f"{family.prefixes[site.part]}_{flat}", name)
            if site.part == "unet":
                places.setdefault(f"lycoris_{flat}", name)
    layers: dict[str, Layer] = {}
    for key, tensor in tensors.items():
        module, _, role = key.partition(".")
        if module not in places:
            raise StudioError(_unknown(module, family))
        layer = layers.setdefault(places[module], Layer(module))
        if role == "alpha":
            layer.alpha = tensor
        elif role == "dora_scale":
            layer.magnitude = tensor
        elif role in _ROLES:
            layer.put(*_ROLES[role], tensor)
        else:
            raise StudioError(
                f"The adapter type of {key} is not supported. Supported are LoRA, LoCon, LoHa, LoKr, OFT, DoRA "
                "and full."
            )
    return layers


def _unknown(module: str, family: Family) -> str:
    of_two = module.startswith(("lora_te1_", "lora_te2_"))
    if module.startswith("lora_te") and of_two is not (family is SDXL):
        other = SDXL.title if of_two else "a model with one text encoder"
        return f"The file is for {other}, and this base is {family.title}. Give a base of that family with --base."
    return f"This base, {family.title}, has no layer {module}. Give a base of the file's family with --base."


def check_family(metadata: Mapping[str, str], family: Family) -> None:
    """Raise StudioError where a file's metadata names another family than the base's."""
    version = metadata.get("ss_base_model_version", "")
    architecture = metadata.get("modelspec.architecture", "")
    named = next((known for known in FAMILIES if _names(known, version, architecture)), None)
    if named is not None and named is not family and family is not OTHER:
        raise StudioError(
            f"The file is for {named.title}, and this base is {family.title}. Give a base of that family with --base."
        )


def _names(family: Family, version: str, architecture: str) -> bool:
    short = family.kohya_version.split("_base")[0]
    return (bool(version) and version.startswith(short)) or (
        bool(architecture) and architecture.startswith(family.architecture)
    )


def description(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The descriptive entries of a file's metadata."""
    kept = ("ss_output_name", "ss_base_model_version", "modelspec.title", "modelspec.trigger_phrase")
    return {key: metadata[key] for key in kept if key in metadata}
