"""Reads and writes textual-inversion files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from concepts.errors import StudioError
from studio.formats.adapter_keys import is_adapter_key
from studio.formats.safe_reading import read_tensors, shortened
from studio.formats.safetensors_bytes import safetensors_bytes
from studio.models.prompt_windows import longest_prompt
from studio.models.token_embeddings import TextEncoders

_OF_BOTH = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
_KEYS = {
    **dict.fromkeys(("emb_params", "string_to_param.*", "string_to_param", "*", "clip_l", "clip_h"), "text_encoder"),
    "clip_g": "text_encoder_2",
    "text_encoders_0": "text_encoder",
    "text_encoders_1": "text_encoder_2",
}
"""The text encoder of the keys of A1111, ComfyUI, OneTrainer, and diffusers' pivotal tuning."""


def token_bytes(token: str, parts: Mapping[str, Tensor], layout: str) -> bytes:
    """One token's vectors by part, (n, d) or (layers, n, d), as a file in the layout "a1111" or "diffusers".

    With one text encoder A1111's key is emb_params, and the token is the file's name; diffusers' key is the token. With
    two text encoders both tools use clip_l and clip_g. Vectors by layer are averaged, since neither tool supports
    them.
    """
    parts = {part: vectors.mean(0) if vectors.ndim == 3 else vectors for part, vectors in parts.items()}
    if len(parts) > 1:
        return safetensors_bytes({_OF_BOTH[part]: vectors for part, vectors in parts.items()}, {})
    (vectors,) = parts.values()
    return safetensors_bytes({"emb_params" if layout == "a1111" else token: vectors}, {})


@dataclass(frozen=True)
class TokenVectors:
    """A textual inversion's vectors (n, d) by text encoder, and what a person should know of it."""

    vectors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def read_token(path: Path, text_encoders: TextEncoders) -> TokenVectors:
    """A textual inversion from a file of any tool's keys, for a base's tokenizers and text encoders by part.

    Raises StudioError for another kind of file, several tokens, vectors that do not fit, and more than a prompt holds.
    """
    tensors, _ = read_tensors(path)
    if any(map(is_adapter_key, tensors)):
        raise StudioError(
            f"{path.name} is a LoRA, not a textual inversion. Give it as the FILE of studio import, and a textual "
            "inversion with --tokens."
        )
    return token_vectors(path.name, tensors, text_encoders)


def token_vectors(name: str, tensors: Mapping[str, Tensor], text_encoders: TextEncoders) -> TokenVectors:
    """`read_token` of tensors by key, also those that are bundled with a LoRA; `name` names them in errors."""
    known = [key for key in tensors if key in _KEYS]
    if not known and len(tensors) == 1:  # diffusers' key is the token itself
        known = list(tensors)
    parts = {key: _KEYS.get(key, "text_encoder") for key in known}
    if not known or len(set(parts.values())) < len(known):
        raise StudioError(f"{name} has {len(tensors)} tensors. Give a textual inversion file with one token.")
    vectors = {parts[key]: _matrix(name, tensors[key]) for key in known if parts[key] in text_encoders}
    widths = {part: encoder.config.hidden_size for part, (_, encoder) in text_encoders.items()}
    shapes = {part: matrix.shape[1] for part, matrix in vectors.items()}
    if shapes != widths:
        raise StudioError(
            f"The textual inversion {name} has vectors of width {_listed(shapes)}, and this base needs "
            f"{_listed(widths)}. Give one for this base."
        )
    count = max(map(len, vectors.values()))
    if count > (most := min(longest_prompt(tokenizer) for tokenizer, _ in text_encoders.values())):
        raise StudioError(f"The textual inversion {name} has {count} vectors, more than a prompt's {most} tokens.")
    left = [key for key in tensors if parts.get(key) not in text_encoders]
    return TokenVectors(vectors, tuple(_unused(name, key) for key in left))


def _matrix(name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim not in (1, 2):
        raise StudioError(
            f"The textual inversion {name} has vectors of shape {tuple(tensor.shape)}, where a matrix is needed. "
            "Get another copy."
        )
    return torch.atleast_2d(tensor).float()


def _unused(name: str, key: str) -> str:
    why = "this base has one text encoder" if key in _KEYS else "it is no vector of the token's"
    return f"{shortened(key)} of the textual inversion {name} is not used: {why}."


def _listed(widths: Mapping[str, int]) -> str:
    return " and ".join(map(str, widths.values())) or "no"
