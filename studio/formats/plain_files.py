"""Writes a plain LoRA in the layouts of kohya, diffusers and PEFT; nothing is at the output until all is written."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from concepts.errors import StudioError
from studio.formats.diffusers import diffusers_tensors
from studio.formats.kohya import kohya_bytes, kohya_tensors
from studio.formats.lora_approximation import LoraApproximation
from studio.formats.peft import write_peft
from studio.formats.safetensors_bytes import safetensors_bytes
from studio.layers.target_modules import Site
from studio.models.families import Family

DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
PLAIN_LAYOUTS = ("kohya", "diffusers", "peft")
"""The layouts of a plain LoRA."""


@dataclass(frozen=True)
class BaseDescription:
    """What a file says of its base: all of its matrices and norms, its family, its prediction type and its name."""

    sites: Mapping[str, Site]
    family: Family
    prediction: str
    name: str


def write_plain(
    plain: LoraApproximation,
    base: BaseDescription,
    layout: str,
    place: Path,
    dtype: torch.dtype | None,
    metadata: Mapping[str, str],
) -> None:
    """Writes the file, or PEFT's folder, which does not exist; None as the dtype is float32."""
    if layout == "peft":
        place.mkdir()
        write_peft(plain, base.sites, place, base.name, dtype)
    elif layout == "kohya":
        named = kohya_tensors(plain, base.sites, base.family)
        tensors = {key: tensor.to(dtype or torch.float32) for key, tensor in named.items()}
        place.write_bytes(kohya_bytes(tensors, plain.rank, base.family, base.prediction, metadata))
    else:
        place.write_bytes(safetensors_bytes(diffusers_tensors(plain, base.sites), metadata, dtype))


def check_output(layout: str, output: Path, dtype: str) -> None:
    """Raises StudioError for an unknown dtype, and for an output that is no name of the layout, or has no folder."""
    if dtype not in DTYPES:
        raise StudioError(f"There is no dtype {dtype!r}. Choose from {', '.join(DTYPES)}.")
    if layout in ("kohya", "diffusers", "lycoris") and output.suffix != ".safetensors":
        raise StudioError(f"--output {output} does not end in .safetensors. Give a .safetensors file.")
    if layout == "peft" and output.suffix:
        raise StudioError(f"PEFT's format is a folder, and {output} has a file extension. Give --output a folder.")
    if not output.parent.is_dir():
        raise StudioError(f"The folder {output.parent} does not exist. Create it, or choose another.")


def check_free(*files: Path) -> None:
    """Raises StudioError for a file that exists."""
    for file in files:
        if file.exists():
            raise StudioError(f"{file} already exists. Choose another name, or move the file away.")


@contextmanager
def complete(output: Path) -> Iterator[Path]:
    """A place in a temporary folder beside the output, for a file or a folder that becomes the output at the end."""
    with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=output.parent) as held:
        place = Path(held) / "export"
        yield place
        os.replace(place, output)
