"""A base with concepts merged into it, as a checkpoint of its own: a diffusers folder or a single file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from studio.adapters.checkpoint import TrainedConcept
from studio.composition.merge import MergeConfig, merged_changes, sites_of
from studio.composition.patching import changed
from studio.formats.original import original_tensors
from studio.formats.serialising import safetensors_bytes
from studio.layers.sites import Site
from studio.models.base_model import Base


@contextmanager
def folded(
    base: Base, concepts: Mapping[str, TrainedConcept], plan: MergeConfig
) -> Iterator[dict[str, dict[str, Tensor]]]:
    """While open, the base's own weights hold the concepts' changes, also those of embeddings; gives their tokens.

    A change of the vocabulary is made to every word and to the tokens; one of the text encoder's output is made to the
    matrices that read it. Afterwards the base is what it was.
    """
    deltas, biases = merged_changes(base, concepts, plan)
    sites = sites_of(base, concepts)
    outputs = {name: deltas.pop(name) for name in list(deltas) if sites[name].role == "output"}
    words = [(sites[name].module, d) for name, d in outputs.items() if isinstance(sites[name].module, nn.Embedding)]
    behind = [delta for name, delta in outputs.items() if not isinstance(sites[name].module, nn.Embedding)]
    for delta in behind:
        readers = base.sites_of(("cross_attention_kv",))
        deltas |= {name: _behind(site, deltas.get(name), delta) for name, site in readers.items()}
        sites = {**sites, **readers}
    tokens = {token: parts for concept in concepts.values() for token, parts in concept.tokens.items()}
    for _, delta in words:
        tokens = {token: {part: v + v @ delta.mT for part, v in parts.items()} for token, parts in tokens.items()}
    with changed(sites, deltas, biases), _other_words(words):
        yield tokens


def _behind(site: Site, own: Tensor | None, delta: Tensor) -> Tensor:
    """(W + own) (I + delta) − W, (out, in)."""
    changed_weight = site.weight if own is None else site.weight + own
    return changed_weight @ delta + (0 if own is None else own)


@contextmanager
def _other_words(words: list[tuple[Any, Tensor]]) -> Iterator[None]:
    frozen = [(module, module.weight) for module, _ in words]
    for module, delta in words:
        module.weight = nn.Parameter(module.weight + module.weight @ delta.mT, requires_grad=False)
    try:
        yield
    finally:
        for module, weight in frozen:
            module.weight = weight


@torch.no_grad()
def write_folder(base: Base, folder: Path, dtype: torch.dtype | None) -> None:
    """The base as it is now as a diffusers folder, which exists and is empty."""
    base.pipeline.save_pretrained(folder)
    for file in folder.glob("*/*.safetensors") if dtype else ():
        file.write_bytes(safetensors_bytes(load_file(file), {"format": "pt"}, dtype))


@torch.no_grad()
def single_file_bytes(base: Base, dtype: torch.dtype | None) -> bytes:
    """The base as it is now as a single-file checkpoint, in the original code's names."""
    return safetensors_bytes(original_tensors(base.pipeline), {"format": "pt"}, dtype)
