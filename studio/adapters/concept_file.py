"""Saves and loads a trained concept as one safetensors file; the same concept gives the same bytes."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from concepts.errors import StudioError
from studio.adapters import Adapter
from studio.adapters.registry import create_adapters, method_named
from studio.layers.svd_basis import Decomposition
from studio.layers.target_modules import MATRICES, Site

# One metadata key only: safetensors writes several in no fixed order.
_KEY = "concept_studio"


@dataclass(frozen=True)
class TrainedConcept:
    """The result of training one concept.

    `base` is the fingerprint of the adapted weights, `adapter` the method and `config` its options;
    `adapters` holds each site's trained tensors by parameter name, `tokens` each token's vectors, (n, d) or
    by layer (layers, n, d), by text encoder. `metadata` is anything that JSON can hold.
    """

    base: str
    adapter: str
    config: dict[str, Any]
    adapters: dict[str, dict[str, Tensor]]
    tokens: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


def trained_states(adapters: Mapping[str, Adapter]) -> dict[str, dict[str, Tensor]]:
    """Copies of the trained tensors of adapters by site and parameter name, as in TrainedConcept.

    Sites where nothing is left, as after AdaLoRA's pruning, are left out.
    """
    states = {site: adapter.trained_state() for site, adapter in adapters.items()}
    return {site: state for site, state in states.items() if any(tensor.numel() for tensor in state.values())}


def to_bytes(concept: TrainedConcept, dtype: torch.dtype = torch.float32) -> bytes:
    """The concept as a safetensors file, its tensors in the given dtype; the same concept gives the same
    bytes.

    Parameters of one name and shape are stacked, since hundreds of small tensors would cost more header than
    data.
    """
    header = _header(concept)
    sites, tokens = header["sites"], header["tokens"]
    tensors = {
        key: torch.stack([concept.adapters[sites[index]][stack["name"]] for index in stack["sites"]])
        for key, stack in header["stacks"].items()
    } | {f"token:{index}": concept.tokens[token][part] for index, (token, part) in enumerate(tokens)}
    stored = {key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in tensors.items()}
    return save(stored, {_KEY: _text(header)})


def file_size(concept: TrainedConcept) -> int:
    """The length of `to_bytes` in float32 of a concept without tokens, from the shapes alone: its tensors may be on the
    meta device.
    """
    header, end = _header(concept), 0
    entries: dict[str, Any] = {"__metadata__": {_KEY: _text(header)}}
    for key, stack in header["stacks"].items():
        shape = concept.adapters[header["sites"][stack["sites"][0]]][stack["name"]].shape
        begin, end = end, end + 4 * len(stack["sites"]) * shape.numel()
        stacked = [len(stack["sites"]), *shape]
        entries[key] = {"dtype": "F32", "shape": stacked, "data_offsets": [begin, end]}
    length = len(json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + length + -length % 8 + end


def _header(concept: TrainedConcept) -> dict[str, Any]:
    """What the file's metadata says beside the tensors."""
    sites = sorted(concept.adapters)
    tokens = [(token, part) for token in sorted(concept.tokens) for part in sorted(concept.tokens[token])]
    return {
        "base": concept.base,
        "adapter": concept.adapter,
        "config": concept.config,
        "metadata": concept.metadata,
        "sites": sites,
        "stacks": _stacks(concept, sites),
        "tokens": tokens,
    }


def _text(header: dict[str, Any]) -> str:
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _stacks(concept: TrainedConcept, sites: list[str]) -> dict[str, dict[str, Any]]:
    """By key: a parameter's name, and the indices of the sites where it has one and the same shape."""
    stacks: dict[str, dict[str, Any]] = {}
    for index, site in enumerate(sites):
        for name, tensor in concept.adapters[site].items():
            key = f"{name}:{'x'.join(map(str, tensor.shape))}"
            stacks.setdefault(key, {"name": name, "sites": []})["sites"].append(index)
    return stacks


def from_bytes(data: bytes, source: str) -> TrainedConcept:
    """Read a concept, its tensors as float32; `source` names it in errors.

    Raises StudioError if the data is not a concept's file or is damaged.
    """
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_KEY])
        return _concept(header, {key: tensor.float() for key, tensor in tensors.items()})
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise StudioError(f"{source} is damaged, or not the file of a concept. Copy or export it again.") from error


def _concept(header: dict[str, Any], tensors: dict[str, Tensor]) -> TrainedConcept:
    adapters: dict[str, dict[str, Tensor]] = {site: {} for site in header["sites"]}
    for key, stack in header["stacks"].items():
        for index, tensor in zip(stack["sites"], tensors[key], strict=True):
            adapters[header["sites"][index]][stack["name"]] = tensor.clone()
    tokens: dict[str, dict[str, Tensor]] = {}
    for index, (token, part) in enumerate(header["tokens"]):
        tokens.setdefault(token, {})[part] = tensors[f"token:{index}"]
    return TrainedConcept(header["base"], header["adapter"], header["config"], adapters, tokens, header["metadata"])


def build_adapters(
    concept: TrainedConcept, sites: Mapping[str, Site], decomposition: Decomposition
) -> dict[str, Adapter]:
    """The concept's adapters, ready to inject, by site name.

    Raises StudioError if the concept was trained on other weights than `decomposition` names, if a site or
    the method is unknown, or if its tensors do not fit.
    """
    if concept.base != decomposition.fingerprint:
        raise StudioError(
            f"The concept was trained on another base: its fingerprint is {concept.base}, and that of this "
            f"base {decomposition.fingerprint}. Use the concept's base (--base)."
        )
    if missing := next((name for name in concept.adapters if name not in sites), None):
        raise StudioError(
            f"The base has no layer {missing}, which the concept adapts. Use the concept's base (--base)."
        )
    adapted = {name: sites[name] for name in concept.adapters}
    with _own_options(concept):
        adapters = create_adapters(concept.adapter, config_of(concept), adapted, decomposition)
    for name, adapter in adapters.items():
        _load_state(adapter, concept.adapters[name], name)
    return adapters


def config_of(concept: TrainedConcept) -> Any:
    """The options of the concept's method; StudioError if they are not this method's."""
    with _own_options(concept):
        return method_named(concept.adapter).Config(**concept.config)


@contextmanager
def _own_options(concept: TrainedConcept) -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        raise StudioError(
            f"The file has other options than {concept.adapter}: {concept.config}. Train the concept again."
        ) from error


def kinds_of(concept: TrainedConcept) -> tuple[str, ...]:
    """The kinds of layers that contain the concept's sites; a recipe may choose others than its method's default."""
    own = method_named(concept.adapter).kinds(config_of(concept))
    return MATRICES if own == ("attention",) else own


def _load_state(adapter: Adapter, state: dict[str, Tensor], site: str) -> None:
    try:
        adapter.load_trained(state)
    except (RuntimeError, LookupError) as error:
        raise StudioError(
            f"The concept's tensors do not fit the layer {site}. Use the concept's base (--base), or export "
            "the concept again."
        ) from error
