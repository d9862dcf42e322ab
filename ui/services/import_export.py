"""Concepts to and from other tools' files: the verbs behind `studio export` and `studio import`."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from concepts import Concept
from concepts.errors import StudioError
from concepts.names import check_words
from studio.adapters.concept_file import to_bytes
from studio.composition import sharing_notes
from studio.composition.merge_config import MergeConfig
from studio.formats.exporting import Export, export
from studio.formats.importing import ImportedFile, read_adapter, words_as_token
from studio.formats.textual_inversion import read_token, token_vectors
from studio.models.base_model import Base
from studio.models.families import licence_note
from studio.models.token_embeddings import token_of
from ui.services.named_concepts import known_strengths
from ui.services.workflow import Workflow

DEFAULT_CLASS = "thing"


def export_concepts(
    workflow: Workflow,
    names: Sequence[str],
    layout: str,
    output: Path,
    config: MergeConfig | None = None,
    rank: int | None = None,
    dtype: str = "float32",
) -> tuple[Export, list[str]]:
    """Writes concepts, several of them merged, as a file of another tool; also what a person should know of it."""
    trained = {name: workflow.loaded(name) for name in dict.fromkeys(names)}
    config = config or MergeConfig()
    config = replace(config, strengths=known_strengths(config.strengths, trained, workflow.base))
    made = export(workflow.base, trained, layout, output, config, rank, dtype)
    notes = sharing_notes(trained)
    if terms := licence_note(workflow.base.family):
        notes.append(terms)
    if made.lost_biases:
        notes.append(
            f"The changed biases of {made.lost_biases} layers are left out, since kohya's format has no biases."
        )
    if made.averaged:
        notes.append(
            f"Other tools do not support layer-wise tokens, so the file of {' and '.join(made.averaged)} has "
            "the layers' mean, and images will differ. For other tools, train without layerwise_token."
        )
    return made, notes


def export_for_download(workflow: Workflow, name: str, layout: str) -> tuple[list[Path], list[str]]:
    """Exports a trained concept into a temporary folder of its own; the files, a folder packed into one, and notes."""
    concept = workflow.library.concept(name)
    folder = Path(tempfile.mkdtemp())
    output = folder / (concept.name if layout == "peft" else f"{concept.name}.safetensors")
    made, notes = export_concepts(workflow, [concept.name], layout, output)
    if made.path.is_dir():
        made = replace(made, path=Path(shutil.make_archive(str(folder / f"{concept.name}-peft"), "zip", made.path)))
    return [made.path, *made.tokens.values()], notes


def import_file(
    workflow: Workflow,
    source: Path,
    name: str,
    class_word: str | None = None,
    tokens: Path | None = None,
    trigger: str | None = None,
) -> tuple[Concept, list[str]]:
    """Adds another tool's file to the library as a concept, without pictures; also what a person should know of it.

    A textual inversion becomes a concept of that method, whose token has the file's vectors. For all other files
    <NAME> means the token in `tokens`, a textual inversion, by default the one beside the file or bundled with it;
    without one, the words of `trigger`, of the file's own trigger phrase, or the class word. Nothing is kept when
    anything is wrong.
    """
    word = class_word or DEFAULT_CLASS
    check_words(name, word)
    base = workflow.base
    file = read_adapter(base, source, {"name": name, "class_word": word, "base_name": base.name})
    found, notes = _vectors(base, file, source, tokens, trigger, word)
    concept = replace(file.concept, tokens={token_of(name): found})
    numbers = sum(tensor.numel() for state in concept.adapters.values() for tensor in state.values())
    details = {"base": concept.base, "adapter": concept.adapter, "rank": 0, "parameters": numbers}
    added = workflow.library.add_trained(name, word, to_bytes(concept), {**details, **_kept(concept.metadata)})
    return added, [*file.notes, *notes]


def _vectors(
    base: Base, file: ImportedFile, source: Path, tokens: Path | None, trigger: str | None, word: str
) -> tuple[dict[str, Tensor], list[str]]:
    """What the concept's name stands for, by text encoder, and notes."""
    beside = source.with_name(f"{source.name.removesuffix('.safetensors')}.tokens.safetensors")
    if file.is_embedding:
        if tokens is not None or trigger is not None:
            raise StudioError(
                f"{source.name} is a textual inversion, which is the token itself. Leave --tokens and --trigger out."
            )
        return _bundled(base, file, source)
    inversion = tokens or (beside if trigger is None and beside.exists() else None)
    unused = [f"The embedding {name} that is bundled with the file is not used." for name in file.embeddings]
    if inversion is not None:
        read = read_token(inversion, base.text_encoders)
        return read.vectors, [*unused, *read.notes]
    if trigger is not None or not file.embeddings:
        return words_as_token(base, trigger or _trigger(file.concept.metadata, word)), unused
    if len(file.embeddings) > 1:
        raise StudioError(
            f"{source.name} bundles the embeddings {', '.join(file.embeddings)}, and a concept has one token. Give its "
            "words with --trigger, or one embedding with --tokens."
        )
    return _bundled(base, file, source)


def _bundled(base: Base, file: ImportedFile, source: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The vectors of the only embedding in a file."""
    ((name, tensors),) = file.embeddings.items()
    bundled = token_vectors(f"{name} in {source.name}", tensors, base.text_encoders)
    return bundled.vectors, list(bundled.notes)


def _trigger(metadata: Mapping[str, Any], word: str) -> str:
    """The file's own trigger phrase, unless it is a token of the studio's, whose vectors are elsewhere."""
    said = metadata["imported"].get("modelspec.trigger_phrase", "")
    return word if not said or "<" in said else said


def _kept(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"imported": metadata["imported"]}
