"""Exports concepts as files for other tools; files are written to a temporary folder and renamed when complete."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from concepts.errors import StudioError
from concepts.storage import atomic_write
from studio.adapters.concept_file import TrainedConcept
from studio.composition.merge_config import MergeConfig
from studio.formats.full_checkpoint import folded, single_file_bytes, write_folder
from studio.formats.kohya import network_bytes
from studio.formats.lora_approximation import approximate_lora
from studio.formats.lycoris import lycoris_tensors
from studio.formats.plain_files import DTYPES, BaseDescription, check_free, check_output, complete, write_plain
from studio.formats.textual_inversion import token_bytes
from studio.models.base_model import Base
from studio.models.families import family_of
from studio.models.token_embeddings import layer_count

Layout = Literal["kohya", "diffusers", "peft", "lycoris", "full"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
_A1111 = ("kohya", "lycoris")
"""The layouts whose tools read A1111's embedding files."""
EVERY_MATRIX = ("linear", "convolution", "norm")
"""The kinds of layers that other tools' files may change."""
METADATA = "concept_studio"
"""The key of the safetensors metadata with an export's base, concepts and tokens."""


@dataclass(frozen=True)
class Export:
    """The written file or folder, the tokens' files by token, and the approximation's quality.

    `rank` is the largest of any layer, `error` the relative error of the matrices, and `lost_biases` how many layers'
    changed biases the layout cannot store; a full checkpoint has rank 0, error 0 and loses none. `averaged` are the
    tokens by layer, whose files have the layers' mean.
    """

    path: Path
    tokens: dict[str, Path]
    rank: int = 0
    error: float = 0.0
    lost_biases: int = 0
    averaged: tuple[str, ...] = ()


def export(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    layout: str,
    output: Path | str,
    config: MergeConfig | None = None,
    rank: int | None = None,
    dtype: str = "float32",
) -> Export:
    """Write concepts, several of them merged, in the layout of other tools, with their tokens in separate files.

    kohya, diffusers and lycoris are one .safetensors file, peft is a folder, and full is either, a checkpoint of its
    own. The tokens of OUTPUT.safetensors are in OUTPUT.tokens.safetensors; a concept that is a token alone is one
    embedding file, OUTPUT. Raises StudioError for an unknown layout or a wrong
    name, for an output that exists, and for changes that the layout cannot store.
    """
    output = Path(output)
    config, origin = config or MergeConfig(), _origin(base, concepts)
    _check(layout, output, dtype)
    if layout != "full" and not any(concept.adapters for concept in concepts.values()):
        return _export_token(concepts, layout, output)
    files = _token_files(output, origin["tokens"])
    check_free(output, *files.values())
    with complete(output) as place:
        if layout == "full":
            with folded(base, concepts, config) as tokens:
                _write_full(base, place, output, DTYPES[dtype])
            made = Export(output, files)
        elif layout == "lycoris":
            _write_lycoris(base, concepts, config, place, DTYPES[dtype], origin)
            made = Export(output, files)
            tokens = {token: parts for concept in concepts.values() for token, parts in concept.tokens.items()}
        else:
            plain = approximate_lora(base, concepts, config, rank)
            write_plain(plain, _described(base), layout, place, DTYPES[dtype], _metadata(origin))
            lost = len(plain.biases) if layout == "kohya" else 0
            made, tokens = Export(output, files, plain.rank, plain.error, lost), plain.tokens
        for token, file in files.items():
            written = place.with_name(file.name)
            written.write_bytes(token_bytes(token, tokens[token], "a1111" if layout in _A1111 else "diffusers"))
            os.replace(written, file)
    return replace(made, averaged=tuple(t for t in files if max(map(layer_count, tokens[t].values())) > 1))


def _export_token(concepts: Mapping[str, TrainedConcept], layout: str, output: Path) -> Export:
    """Writes the embedding of a concept that has no layers."""
    tokens = {token: parts for concept in concepts.values() for token, parts in concept.tokens.items()}
    if len(tokens) > 1:
        raise StudioError("These concepts are tokens alone, and each is a file of its own. Export one at a time.")
    if layout == "peft":
        raise StudioError(
            "This concept is a token alone, which PEFT's format cannot store. Export it with --format kohya."
        )
    check_free(output)
    ((token, parts),) = tokens.items()
    atomic_write(output, token_bytes(token, parts, "a1111" if layout in _A1111 else "diffusers"))
    averaged = (token,) if max(map(layer_count, parts.values())) > 1 else ()
    return Export(output, {token: output}, averaged=averaged)


def _check(layout: str, output: Path, dtype: str) -> None:
    if layout not in LAYOUTS:
        raise StudioError(f"There is no format {layout!r}. Choose from {', '.join(LAYOUTS)}.")
    check_output(layout, output, dtype)


def _origin(base: Base, concepts: Mapping[str, TrainedConcept]) -> dict[str, Any]:
    return {
        "base": base.decomposition.fingerprint,
        "base_name": base.name,
        "concepts": list(concepts),
        "adapters": sorted({concept.adapter for concept in concepts.values()}),
        "tokens": [token for concept in concepts.values() for token in concept.tokens],
    }


def _metadata(origin: Mapping[str, Any]) -> dict[str, str]:
    return {METADATA: json.dumps(origin, sort_keys=True), "modelspec.trigger_phrase": " ".join(origin["tokens"])}


def _described(base: Base) -> BaseDescription:
    prediction = base.pipeline.scheduler.config.prediction_type
    return BaseDescription(base.sites_of(EVERY_MATRIX), family_of(base.parts), prediction, base.name)


def _write_lycoris(
    base: Base,
    concepts: Mapping[str, TrainedConcept],
    config: MergeConfig,
    place: Path,
    dtype: torch.dtype | None,
    origin: Mapping[str, Any],
) -> None:
    found = lycoris_tensors(base, concepts, config, base.sites_of(EVERY_MATRIX))
    tensors = {key: tensor.to(dtype or torch.float32) for key, tensor in found.items()}
    module, prediction = {"ss_network_module": "lycoris.kohya"}, base.pipeline.scheduler.config.prediction_type
    place.write_bytes(network_bytes(tensors, module, "lycoris", family_of(base.parts), prediction, _metadata(origin)))


def _write_full(base: Base, place: Path, output: Path, dtype: torch.dtype | None) -> None:
    if output.suffix == ".safetensors":
        place.write_bytes(single_file_bytes(base, dtype))
    else:
        place.mkdir()
        write_folder(base, place, dtype)


def _token_files(output: Path, tokens: list[str]) -> dict[str, Path]:
    """A file for each token; where there are several, with the token's name in the file's."""
    stem = output.name.removesuffix(".safetensors")
    several = len(tokens) > 1
    return {
        token: output.with_name(f"{stem}{'.' + token.strip('<>') if several else ''}.tokens.safetensors")
        for token in tokens
    }
