"""Reads untrusted files without running code in them."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from concepts.errors import StudioError

_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A safetensors file's tensors by key, and its metadata.

    Raises StudioError for a file that does not exist, is a pickle, is truncated or has another format.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise StudioError(f"Give a file that can be read: {path} cannot be opened.") from error
    if path.suffix.lower() in _PICKLES or start.startswith(_PICKLE_STARTS):
        raise StudioError(
            f"Convert {path.name} to safetensors first: a pickle file can run any program when it is opened."
        )
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise StudioError(
            f"Get another copy of {path.name}: it is truncated, or no safetensors file ({error})."
        ) from error


def read_json(path: Path) -> dict:
    """A JSON file's object; StudioError if it is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StudioError(f"Get another copy of {path}: it is missing, or no JSON.") from error
    if not isinstance(found, dict):
        raise StudioError(f"Get another copy of {path}: it holds no JSON object.")
    return found
