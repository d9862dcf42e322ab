"""Deterministic safetensors files: the same content gives the same bytes."""

import json
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor


def safetensors_bytes(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], dtype: torch.dtype | None = None
) -> bytes:
    """The file's bytes, with metadata in alphabetical order; the safetensors library fixes no order."""
    # Copies, since layers may share a frozen factor and safetensors refuses shared memory.
    data = save({key: tensor.detach().to("cpu", dtype, copy=True).contiguous() for key, tensor in tensors.items()})
    size = int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + size])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[8 + size :]
