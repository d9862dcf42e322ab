"""Imports other tools' files as concepts of a base."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept
from studio.adapters.imported import Imported
from studio.formats.diffusers import diffusers_layers
from studio.formats.exporting import EVERY_MATRIX, METADATA
from studio.formats.imported_layer import Layer
from studio.formats.kohya import check_family, description, is_kohya, kohya_layers
from studio.formats.layer_conversion import Terms
from studio.formats.peft import CONFIG_FILE, peft_folders, peft_layers
from studio.formats.safe_reading import read_tensors
from studio.layers.target_modules import Site
from studio.models.base_model import Base
from studio.models.families import family_of

_RAW_PEFT = "base_model.model."


def import_concept(base: Base, source: Path, metadata: Mapping[str, Any]) -> TrainedConcept:
    """A LoRA, LoHa, LoKr, OFT or difference file as a concept of this base, without a token of its own.

    `source` is a .safetensors file in kohya's, LyCORIS' or diffusers' layout, or a folder that PEFT wrote; `metadata`
    becomes the concept's, together with the file's own. Raises StudioError, with the reason, for a pickle, a truncated
    file, one of another base or family, and for shapes and keys that do not fit.
    """
    sites = base.sites_of(EVERY_MATRIX)
    layers, layout, file_metadata = _layers(base, source, sites)
    if not layers:
        raise StudioError(f"{source} has no adapted layers. Give a file of an adapter.")
    terms = {name: layer.terms(sites[name]) for name, layer in layers.items()}
    origin = {"file": source.name, "layout": layout, "layers": len(terms), **file_metadata}
    return TrainedConcept(
        base=base.decomposition.fingerprint,
        adapter="imported",
        config=asdict(Imported.of(_kinds(base, terms), terms)),
        adapters=terms,
        metadata={**metadata, "imported": origin},
    )


def _layers(base: Base, source: Path, sites: Mapping[str, Site]) -> tuple[dict[str, Layer], str, dict[str, Any]]:
    """The file's layers by site name, its layout, and its own metadata."""
    if source.is_dir():
        if not peft_folders(source):
            raise StudioError(f"{source} has no {CONFIG_FILE}. Give a .safetensors file, or a folder that PEFT wrote.")
        return peft_layers(source, sites), "peft", {}
    tensors, metadata = read_tensors(source)
    _check_base(base, metadata)
    family = family_of(base.parts)
    check_family(metadata, family)
    if any(key.startswith(_RAW_PEFT) for key in tensors):
        raise StudioError(
            f"{source.name} is a part of a PEFT folder and needs {CONFIG_FILE} beside it. Give the folder."
        )
    if is_kohya(list(tensors)):
        return kohya_layers(tensors, sites, family), "kohya", description(metadata)
    return diffusers_layers(tensors, metadata, sites), "diffusers", description(metadata)


def _check_base(base: Base, metadata: Mapping[str, str]) -> None:
    """Raise StudioError where the studio itself exported the file from another base."""
    try:
        origin = json.loads(metadata.get(METADATA, "{}"))
    except ValueError:
        origin = {}
    made_for = origin.get("base", base.decomposition.fingerprint)
    if made_for != base.decomposition.fingerprint:
        raise StudioError(
            f"The file was exported from the base {origin.get('base_name')} with the fingerprint {made_for}, "
            f"and that of this base is {base.decomposition.fingerprint}. Give that base with --base."
        )


def _kinds(base: Base, terms: Mapping[str, Terms]) -> tuple[str, ...]:
    """The kinds of layers, of EVERY_MATRIX, that the file adapts."""
    return tuple(kind for kind in EVERY_MATRIX if any(name in base.sites_of((kind,)) for name in terms))


def words_as_token(base: Base, words: str) -> dict[str, Tensor]:
    """The frozen embeddings (n, d) of some words by text encoder, as the vectors of a token that stands for them.

    Raises StudioError for words without tokens.
    """
    vectors = {}
    for part, (tokenizer, encoder) in base.text_encoders.items():
        pieces = tokenizer(words, add_special_tokens=False, return_tensors="pt").input_ids[0]
        if not len(pieces):
            raise StudioError("--trigger is empty. Give the trigger words.")
        vectors[part] = encoder.get_input_embeddings()(pieces.to(base.device)).detach().float().cpu().clone()
    return vectors
