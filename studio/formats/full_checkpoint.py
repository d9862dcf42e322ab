"""Exports a base with merged concepts as a full checkpoint: a diffusers folder or a single file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from studio.adapters.concept_file import TrainedConcept
from studio.composition.loaded_concept import load_concepts, sites_of
from studio.composition.merge import merged_changes
from studio.composition.merge_config import MergeConfig
from studio.composition.output_changes import refuse_output_changes
from studio.composition.patching import changed
from studio.formats.safetensors_bytes import safetensors_bytes
from studio.formats.single_file_keys import original_tensors
from studio.layers.target_modules import Site
from studio.models.base_model import Base


@contextmanager
def folded(
    base: Base, concepts: Mapping[str, TrainedConcept], config: MergeConfig
) -> Iterator[dict[str, dict[str, Tensor]]]:
    """While open, the concepts' changes, also of embeddings, are merged into the base's weights; yields their tokens.

    A change of the token embeddings is applied to the vocabulary and to the new tokens; one of the text encoder's
    output is merged into the key and value projections, and one of the latents' first features into the UNet's first
    convolution. Afterwards the base is restored.
    """
    loaded = load_concepts(base, concepts)
    refuse_output_changes(loaded)
    deltas, biases = merged_changes(base, loaded, config)
    sites = sites_of(loaded)
    outputs = {name: deltas.pop(name) for name in list(deltas) if sites[name].role == "output"}
    embeddings = [
        (sites[name].module, d) for name, d in outputs.items() if isinstance(sites[name].module, nn.Embedding)
    ]
    text_outputs = [delta for name, delta in outputs.items() if isinstance(sites[name].module, nn.LayerNorm)]
    for name in [name for name in outputs if isinstance(sites[name].module, nn.Conv2d)]:
        first = base.sites_of(("convolution",))[name]
        sites, deltas = {**sites, name: first}, {**deltas, name: outputs[name] @ first.weight}
        biases = biases if first.bias is None else {**biases, name: outputs[name] @ first.bias}
    for delta in text_outputs:
        projections = base.sites_of(("cross_attention_kv",))
        deltas |= {name: _with_input_change(site, deltas.get(name), delta) for name, site in projections.items()}
        sites = {**sites, **projections}
    tokens = {token: parts for concept in concepts.values() for token, parts in concept.tokens.items()}
    for _, delta in embeddings:
        tokens = {token: {part: v + v @ delta.mT for part, v in parts.items()} for token, parts in tokens.items()}
    with changed(sites, deltas, biases), _changed_embeddings(embeddings):
        yield tokens


def _with_input_change(site: Site, own: Tensor | None, delta: Tensor) -> Tensor:
    """(W + own) (I + delta) − W, (out, in)."""
    changed_weight = site.weight if own is None else site.weight + own
    return changed_weight @ delta + (0 if own is None else own)


@contextmanager
def _changed_embeddings(embeddings: list[tuple[Any, Tensor]]) -> Iterator[None]:
    frozen = [(module, module.weight) for module, _ in embeddings]
    for module, delta in embeddings:
        module.weight = nn.Parameter(module.weight + module.weight @ delta.mT, requires_grad=False)
    try:
        yield
    finally:
        for module, weight in frozen:
            module.weight = weight


@torch.no_grad()
def write_folder(base: Base, folder: Path, dtype: torch.dtype | None) -> None:
    """The base in its current state as a diffusers folder, which exists and is empty."""
    base.pipeline.save_pretrained(folder)
    for file in folder.glob("*/*.safetensors") if dtype else ():
        file.write_bytes(safetensors_bytes(load_file(file), {"format": "pt"}, dtype))


@torch.no_grad()
def single_file_bytes(base: Base, dtype: torch.dtype | None) -> bytes:
    """The base in its current state as a single-file checkpoint, with the original code's keys."""
    return safetensors_bytes(original_tensors(base.pipeline), {"format": "pt"}, dtype)
