"""Reads and writes textual-inversion files."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from concepts.errors import StudioError
from studio.formats.safe_reading import read_tensors
from studio.formats.safetensors_bytes import safetensors_bytes

_OF_BOTH = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


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


def read_token(path: Path, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """A textual inversion's vectors (n, d) by part, from a file of either layout.

    `widths` are those of the base's text encoders. Raises StudioError for anything else.
    """
    tensors, _ = read_tensors(path)
    names = {key: part for part, key in _OF_BOTH.items()}
    if set(tensors) == set(names):
        found = {names[key]: tensor for key, tensor in tensors.items()}
    elif len(tensors) == 1:
        found = {"text_encoder": next(iter(tensors.values()))}
    else:
        raise StudioError(f"{path.name} has {len(tensors)} tensors. Give a textual inversion file with one token.")
    vectors = {part: (tensor[None] if tensor.ndim == 1 else tensor).float() for part, tensor in found.items()}
    shapes = {part: tensor.shape[1] for part, tensor in vectors.items() if tensor.ndim == 2}
    if shapes != dict(widths):
        raise StudioError(
            f"The textual inversion {path.name} has vectors of width {_listed(shapes)}, and this base needs "
            f"{_listed(widths)}. Give one for this base."
        )
    return vectors


def _listed(widths: Mapping[str, int]) -> str:
    return " and ".join(map(str, widths.values())) or "no"
