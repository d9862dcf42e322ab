"""Reads untrusted files without running code in them."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from concepts.errors import StudioError
from studio.models.checkpoints.header import other_format

_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")

_LONGEST = 1000
"""Characters of a text that is kept from a file."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A safetensors file's tensors by key, and its metadata.

    Raises StudioError for a file that does not exist, is a pickle, is truncated or has another format, and for tensors
    that are empty, complex, or have values that are not finite.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except IsADirectoryError as error:
        raise StudioError(f"{path} is a folder. Give a .safetensors file.") from error
    except (OSError, ValueError) as error:
        raise StudioError(f"{path} cannot be opened. Check the path and its permissions.") from error
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, AttributeError, RuntimeError) as error:
        if path.suffix.lower() in _PICKLES:
            raise StudioError(
                f"{path.name} is a pickle file, which can run any code when it is opened. Convert it to safetensors "
                "first."
            ) from error
        if said := other_format(start):
            raise StudioError(f"{path.name} {said}.") from error
        raise StudioError(
            f"{path.name} is truncated, or not a safetensors file ({error}). Get another copy."
        ) from error
    for key, tensor in tensors.items():
        _check_values(path.name, key, tensor)
    return tensors, metadata


def _check_values(name: str, key: str, tensor: Tensor) -> None:
    if tensor.is_complex():
        fault = "is complex"
    elif not tensor.numel():
        fault = f"is empty, of shape {tuple(tensor.shape)}"
    elif not tensor.float().isfinite().all():
        fault = "has NaN or infinite values"
    else:
        return
    raise StudioError(f"{name} is invalid: its tensor {shortened(key)} {fault}. Get another copy.")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object; StudioError if it is none."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise StudioError(f"{path} is missing, or not JSON. Get another copy.") from error
    return json_object(text, str(path))


def json_object(text: str, source: str) -> dict[str, Any]:
    """The object in a JSON text; StudioError, which names the source, if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StudioError(f"{source} is not JSON. Get another copy.") from error
    if not isinstance(found, dict):
        raise StudioError(f"{source} is not a JSON object. Get another copy.")
    return found


def shortened(key: str) -> str:
    """A key for an error message: printable, in quotes, and of at most 80 characters."""
    text = repr(key)
    return text if len(text) <= 80 else f"{text[:40]}…{text[-38:]}"


def printable(text: Any) -> str:
    """What a file says, as a text without control characters, which would reach the terminal, and shortened."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)[:_LONGEST]).strip()
