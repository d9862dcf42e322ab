"""Reads the layers of one file of another tool, whatever mixture of layouts its keys have."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from concepts.errors import StudioError
from studio.formats.adapter_keys import split_key
from studio.formats.imported_layer import Layer
from studio.formats.layer_names import field_path
from studio.formats.layer_places import LayerPlaces
from studio.formats.other_families import refuse_family, refuse_other_kinds, unknown_key
from studio.formats.peft_config import configure
from studio.formats.safe_reading import json_object
from studio.layers.target_modules import Site
from studio.models.families import Family

ADAPTER_METADATA = "lora_adapter_metadata"
"""diffusers' key of the metadata with the PEFT configurations, as JSON."""
_OPTIONS = {"r": "r", "rank": "r", "lora_rank": "r", "lora_alpha": "lora_alpha", "alpha": "lora_alpha"}
"""Rank and alpha that stand in the metadata by themselves, as PEFT's options."""
PARTS = ("text_encoder_2", "text_encoder", "unet")
BUNDLED = re.compile(r"bundle_emb\.(.+?)\.(string_to_param\.\*|[^.]+)")


@dataclass
class AdapterFile:
    """The layers of a file by the base's site names, embeddings that are bundled with it by name, and what a person
    should know of it.
    """

    layers: dict[str, Layer]
    embeddings: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_layers(
    name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], sites: Mapping[str, Site], family: Family
) -> AdapterFile:
    """The layers of the tensors of one file, `name`; keys without a part are the UNet's, as in diffusers.

    Read are the layouts of kohya, LyCORIS, OneTrainer, ComfyUI, the original code and diffusers. Raises StudioError for
    another kind of file, another family's, an unknown layout, and metadata that is invalid.
    """
    refuse_other_kinds(name, tensors)
    bundled = {key: match for key in tensors if (match := BUNDLED.fullmatch(key))}
    own = {key: tensor for key, tensor in tensors.items() if key not in bundled}
    embeddings: dict[str, dict[str, Tensor]] = {}
    for key, match in bundled.items():
        embeddings.setdefault(match[1], {})[match[2]] = tensors[key]
    places, configs = LayerPlaces(sites, family), file_configs(name, metadata)

    def set_up(layer: Layer, site: Site) -> None:
        configure(layer, field_path(site), configs.get(site.part, configs.get("", {})))

    layers = gather(name, own, places.find, lambda layer, place: set_up(layer, sites[place]), family)
    notes = _notes(own, layers, "text_encoder_2" in places.parts)
    return AdapterFile(layers, embeddings, notes)


def gather(
    name: str,
    tensors: Mapping[str, Tensor],
    find: Callable[[str], str | None],
    set_up: Callable[[Layer, str], None],
    family: Family,
) -> dict[str, Layer]:
    """The layers by site name, from tensors whose modules `find` looks up; `set_up` gets each new layer and its site.

    Raises StudioError for a key that names no layer, or no tensor of a known adapter type.
    """
    layers: dict[str, Layer] = {}
    for key, tensor in tensors.items():
        module, known = split_key(key)
        place = find(module)
        if known is None or place is None:
            unknown = [key for key in tensors if split_key(key)[1] is None or find(split_key(key)[0]) is None]
            refuse_family(tensors, unknown, family)
            raise unknown_key(name, key, _has_layer(key, find), family)
        if place not in layers:
            layers[place] = Layer(module)
            set_up(layers[place], place)
        layers[place].put(*known, tensor)
    refuse_family(tensors, [], family)
    return layers


def _has_layer(key: str, find: Callable[[str], str | None]) -> bool:
    """Whether a key begins with the name of a layer."""
    parts = key.split(".")
    return any(find(".".join(parts[:count])) for count in range(len(parts) - 1, 0, -1))


def file_configs(name: str, metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The PEFT configuration of each part, "" for all, where the file has them: as JSON or entry by entry."""
    configs: dict[str, dict[str, Any]] = {}
    if ADAPTER_METADATA in metadata:
        for key, value in json_object(metadata[ADAPTER_METADATA], f"The metadata {ADAPTER_METADATA} of {name}").items():
            part, dot, option = key.partition(".")
            configs.setdefault(part if dot else "", {})[option if dot else part] = value
        return configs
    for key, value in metadata.items():
        part, option = option_of(key)
        if option:
            configs.setdefault(part, {})[option] = _number(name, key, value)
    return configs


def option_of(key: str) -> tuple[str, str | None]:
    """The part ("" for all) and PEFT's option of an entry of the metadata; None for an entry of another kind."""
    part = next((part for part in PARTS if key.startswith(f"{part}.")), "")
    return part, _OPTIONS.get(key.removeprefix(f"{part}."))


def _number(name: str, key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise StudioError(f"The metadata {key} of {name} is not a number. Get another copy.") from error


def _notes(tensors: Mapping[str, Tensor], layers: Mapping[str, Layer], two_encoders: bool) -> list[str]:
    notes = []
    if not two_encoders and any(key.startswith("lora_te1_") for key in tensors):
        notes.append(
            "The file names its text encoder lora_te1, the first of several. It is applied to this base's only one."
        )
    zero = sum(layer.alpha is not None and not layer.alpha.any() and layer.scaled for layer in layers.values())
    if zero:
        notes.append(f"Layers whose alpha is 0 change nothing, as in ComfyUI and A1111. The file has {zero}.")
    return notes
