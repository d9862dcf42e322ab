"""Safetensors files by their header alone: the shapes of the tensors and the metadata."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from concepts.errors import StudioError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for one in Git LFS (Git LFS specification, "The Pointer")."""
_RUNS_CODE = "can run any code when it is opened. Convert it to safetensors first"
_BEGINNINGS = {
    LFS_POINTER: "is a Git LFS pointer, without the weights. Run git lfs pull in its repository, or download the file "
    "itself",
    b"<": "is a web page, not weights. Download the file itself",
    b"GGUF": "is a GGUF file, which is not supported. Give the model as safetensors",
    **dict.fromkeys(
        (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"(dp0", b"(lp0"),
        f"is a pickle file, which {_RUNS_CODE}",
    ),
}


@dataclass(frozen=True)
class Header:
    """The shapes of a file's tensors by key, and its metadata."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """The header of a safetensors file. Raises StudioError, with what the file is instead, if it has none, and for a
    file that ends before its last tensor.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if said := other_format(start):
            raise StudioError(f"{path.name} {said}.")
        if missing := _missing_bytes(path, start):
            raise StudioError(f"{path.name} is truncated: the last {missing:,} bytes are missing. Download it again.")
        with safe_open(path, "pt") as opened:
            shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
            return Header(shapes, opened.metadata() or {})
    except StudioError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise StudioError(f"{path.name} is truncated, or not a safetensors file. Get another copy.") from error


def other_format(start: bytes) -> str | None:
    """What a file is that begins with these bytes, and what to do, as in "is a web page, …"; None for safetensors, and
    for what is not known. A safetensors header's length may begin as a pickle does.
    """
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[8:9] == b"{":
        return None
    return next((said for mark, said in _BEGINNINGS.items() if text.startswith(mark)), None)


def _missing_bytes(path: Path, start: bytes) -> int:
    """How many bytes a safetensors file lacks at its end; 0 for a whole one, and for a file of another kind."""
    size, length = path.stat().st_size, int.from_bytes(start[:8], "little")
    if start[8:9] != b"{":
        return 0
    if 8 + length > size:
        return 8 + length - size if length < 2**27 else 0
    with path.open("rb") as file:
        file.seek(8)
        described = json.loads(file.read(length))
    ends = [value["data_offsets"][1] for key, value in described.items() if key != "__metadata__"]
    return max(0, 8 + length + max(ends, default=0) - size)
