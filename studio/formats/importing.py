"""Imports other tools' files as concepts of a base."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept
from studio.adapters.imported import Imported
from studio.adapters.token_only import TextualInversion
from studio.formats.adapter_file import AdapterFile, read_layers
from studio.formats.exporting import EVERY_MATRIX, METADATA
from studio.formats.kohya import check_family, description
from studio.formats.layer_conversion import Terms
from studio.formats.other_families import is_embedding
from studio.formats.peft import check_folder, peft_layers, refuse_part_of_folder
from studio.formats.safe_reading import json_object, printable, read_tensors
from studio.models.base_model import Base
from studio.models.families import family_of
from studio.models.prompt_windows import longest_prompt

EMBEDDING = "embedding"
"""The layout of a textual inversion."""
_NO_LAYERS = ("textual_inversion", TextualInversion.Config())
_KOHYA = ("lora_unet_", "lora_te", "lycoris_", "oft_unet_")


@dataclass(frozen=True)
class ImportedFile:
    """A file's layers as a concept without tokens; the embeddings that are bundled with it, each by name with its
    tensors by key; and what a person should know of it.
    """

    concept: TrainedConcept
    embeddings: dict[str, dict[str, Tensor]]
    notes: tuple[str, ...]

    @property
    def is_embedding(self) -> bool:
        """Whether the file is a textual inversion alone."""
        return not self.concept.adapters


def import_concept(base: Base, source: Path, metadata: Mapping[str, Any]) -> TrainedConcept:
    """`read_adapter`'s concept, without a token of its own."""
    return read_adapter(base, source, metadata).concept


def read_adapter(base: Base, source: Path, metadata: Mapping[str, Any]) -> ImportedFile:
    """A file of LoRA, LoHa, LoKr, OFT, BOFT, GLoRA, (IA)³, DoRA or differences as a concept of this base; a textual
    inversion as one that adapts no layer, and as the only one of its embeddings.

    `source` is a .safetensors file in the layout of kohya, LyCORIS, OneTrainer, ComfyUI, the original code or
    diffusers, or a folder that PEFT wrote; `metadata` becomes the concept's, together with the file's own. Raises
    StudioError, with the reason, for a pickle, a truncated file, one of another base or family, an unknown layout, and
    for shapes and keys that do not fit.
    """
    sites = base.sites_of(EVERY_MATRIX)
    file, layout, file_metadata = _read(base, source)
    if not file.layers and layout != EMBEDDING:
        raise StudioError(f"{source} has no adapted layers. Give a file of an adapter.")
    terms = {name: layer.terms(sites[name]) for name, layer in file.layers.items()}
    origin = {"file": source.name, "layout": layout, "layers": len(terms), **file_metadata}
    adapter, config = ("imported", Imported.of(_kinds(base, terms), terms)) if terms else _NO_LAYERS
    concept = TrainedConcept(
        base=base.decomposition.fingerprint,
        adapter=adapter,
        config=asdict(config),
        adapters=terms,
        metadata={**metadata, "imported": origin},
    )
    return ImportedFile(concept, file.embeddings, tuple(file.notes))


def _read(base: Base, source: Path) -> tuple[AdapterFile, str, dict[str, Any]]:
    """What the file has for the base, its layout, and its own metadata."""
    sites, family = base.sites_of(EVERY_MATRIX), family_of(base.parts)
    if source.is_dir():
        check_folder(source)
        return AdapterFile(peft_layers(source, sites, family)), "peft", {}
    tensors, metadata = read_tensors(source)
    if is_embedding(tensors):
        return AdapterFile({}, {source.stem: tensors}), EMBEDDING, description(metadata)
    _check_base(base, metadata)
    check_family(metadata, family)
    refuse_part_of_folder(source.name, tensors)
    layout = "kohya" if any(key.startswith(_KOHYA) for key in tensors) else "diffusers"
    return read_layers(source.name, tensors, metadata, sites, family), layout, description(metadata)


def _check_base(base: Base, metadata: Mapping[str, str]) -> None:
    """Raise StudioError where the studio itself exported the file from another base."""
    try:
        origin = json_object(metadata.get(METADATA, "{}"), METADATA)
    except StudioError:  # not the studio's own, and nothing depends on it
        return
    made_for = origin.get("base", base.decomposition.fingerprint)
    if made_for != base.decomposition.fingerprint:
        raise StudioError(
            f"The file was exported from the base {printable(origin.get('base_name'))} with the fingerprint "
            f"{printable(made_for)}, "
            f"and that of this base is {base.decomposition.fingerprint}. Give that base with --base."
        )


def _kinds(base: Base, terms: Mapping[str, Terms]) -> tuple[str, ...]:
    """The kinds of layers, of EVERY_MATRIX, that the file adapts."""
    return tuple(kind for kind in EVERY_MATRIX if any(name in base.sites_of((kind,)) for name in terms))


def words_as_token(base: Base, words: str) -> dict[str, Tensor]:
    """The frozen embeddings (n, d) of some words by text encoder, as the vectors of a token that stands for them.

    Raises StudioError for words without tokens, or with more than a prompt holds.
    """
    vectors = {}
    for part, (tokenizer, encoder) in base.text_encoders.items():
        pieces = tokenizer(words, add_special_tokens=False, return_tensors="pt").input_ids[0]
        if not len(pieces):
            raise StudioError("The trigger words are empty. Give others with --trigger.")
        if len(pieces) > (most := longest_prompt(tokenizer)):
            raise StudioError(
                f"The trigger words have {len(pieces)} tokens, more than a prompt's {most}. Give fewer with --trigger."
            )
        vectors[part] = encoder.get_input_embeddings()(pieces.to(base.device)).detach().float().cpu().clone()
    return vectors
