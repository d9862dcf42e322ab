"""Where a training stands, kept in a folder: written whole or not at all, and checked before it is believed."""

import hashlib
import json
import re
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from concepts.errors import StudioError
from concepts.storage import TEMPORARY, StoragePath, atomic_write, entries, make_folder, remove, wrap_storage_errors

KEPT = 2
"""How many checkpoints stay: the newest, and the one before it should the newest be torn."""
_NAME = re.compile(r"step-\d{8}-[0-9a-f]{64}\.safetensors")
_KEY = "state"


class Checkpoints:
    """The checkpoints of one training in a folder that nothing else uses.

    A state is dictionaries, lists, tuples, tensors and what JSON can hold. Its file is safetensors, whose one metadata
    entry is the rest as JSON, and is named by the step and by its own SHA-256 digest.
    """

    def __init__(self, folder: StoragePath):
        self.folder = folder

    def save(self, step: int, state: dict[str, Any]) -> StoragePath:
        """Keeps the state after so many steps, and removes all but the newest few.

        Raises StudioError when the disk refuses; what was kept before is then still there.
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
                f"The checkpoint at step {step} could not be written to {self.folder} ({reason}): make room or "
                "let it be written, and run the same command again. It goes on from the checkpoint before, if any."
            ) from error
        for old in self._found()[:-KEPT]:
            remove(old)
        return path

    def newest(self) -> dict[str, Any] | None:
        """The newest good state; None if there is none. What is torn or unfinished is removed."""
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
    """The value as JSON can hold it, with its kind where JSON would lose that; tensors are put beside it."""
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
