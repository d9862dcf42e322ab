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
        raise StudioError(f"{path} cannot be opened. Check the path and its permissions.") from error
    if path.suffix.lower() in _PICKLES or start.startswith(_PICKLE_STARTS):
        raise StudioError(
            f"{path.name} is a pickle file, which can run any code when it is opened. Convert it to safetensors first."
        )
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise StudioError(
            f"{path.name} is truncated, or not a safetensors file ({error}). Get another copy."
        ) from error


def read_json(path: Path) -> dict:
    """A JSON file's object; StudioError if it is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StudioError(f"{path} is missing, or not JSON. Get another copy.") from error
    if not isinstance(found, dict):
        raise StudioError(f"{path} is not a JSON object. Get another copy.")
    return found
