"""Checkpoints of the training state: written atomically, verified by a checksum when loaded."""

import hashlib
import json
import re
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from concepts.errors import StudioError
from concepts.storage import TEMPORARY, StoragePath, atomic_write, entries, make_folder, remove, wrap_storage_errors

KEPT = 2
"""The number of checkpoints kept: the newest, and the one before it in case the newest is damaged."""
_NAME = re.compile(r"step-\d{8}-[0-9a-f]{64}\.safetensors")
_KEY = "state"


class Checkpoints:
    """The checkpoints of one training in their own folder.

    A state is dictionaries, lists, tuples, tensors and what JSON can hold. Its file is safetensors, whose one metadata
    entry is the rest as JSON, and is named by the step and by its own SHA-256 digest.
    """

    def __init__(self, folder: StoragePath):
        self.folder = folder

    def save(self, step: int, state: dict[str, Any]) -> StoragePath:
        """Saves the state after `step` steps, and removes all but the newest KEPT.

        Raises StudioError if it cannot be written; earlier checkpoints are then kept.
        """
        tensors: dict[str, Tensor] = {}
        description = json.dumps(_packed(state, tensors))
        data = save(tensors, {_KEY: description})
        path = self.folder / f"step-{step:08d}-{hashlib.sha256(data).hexdigest()}.safetensors"
        try:
            make_folder(self.folder, exist_ok=True)
            atomic_write(path, data)
        except OSError as error:
            reason = error.strerror or error
            raise StudioError(
                f"The checkpoint at step {step} could not be written to {self.folder} ({reason}). Free disk space "
                "or allow writing, and run the same command again: it resumes from the previous checkpoint, if "
                "there is one."
            ) from error
        for old in self._found()[:-KEPT]:
            remove(old)
        return path

    def newest(self) -> dict[str, Any] | None:
        """The newest valid state; None if there is none. Damaged and unfinished files are removed."""
        for unfinished in entries(self.folder):
            if TEMPORARY.fullmatch(unfinished.name):
                remove(unfinished)
        for path in reversed(self._found()):
            with wrap_storage_errors(path):
                data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == path.stem.rpartition("-")[2]:
                return _read(data)
            remove(path)
        return None

    def _found(self) -> list[StoragePath]:
        """The checkpoints' files, the oldest first."""
        found = (path for path in entries(self.folder) if _NAME.fullmatch(path.name))
        return sorted(found, key=lambda path: path.name)


def _read(data: bytes) -> dict[str, Any]:
    size = int.from_bytes(data[:8], "little")
    return _unpacked(json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_KEY]), load(data))


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON, tagged with its type where JSON has none; tensors are collected in `tensors`."""
    match value:
        case Tensor():
            key = str(len(tensors))
            tensors[key] = value.detach().to("cpu", copy=True).contiguous()
            return {"tensor": key}
        case dict():
            return {"dict": [[key, _packed(each, tensors)] for key, each in value.items()]}
        case tuple():
            return {"tuple": [_packed(each, tensors) for each in value]}
        case list():
            return [_packed(each, tensors) for each in value]
    return value


def _unpacked(value: Any, tensors: dict[str, Tensor]) -> Any:
    match value:
        case {"tensor": key}:
            return tensors[key]
        case {"dict": entries}:
            return {key: _unpacked(each, tensors) for key, each in entries}
        case {"tuple": entries}:
            return tuple(_unpacked(each, tensors) for each in entries)
        case list():
            return [_unpacked(each, tensors) for each in value]
    return value
