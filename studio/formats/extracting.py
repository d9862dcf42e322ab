"""Extracts a LoRA from two checkpoints: the difference of each matrix as its nearest low-rank product."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.formats.exporting import EVERY_MATRIX, METADATA
from studio.formats.lora_approximation import LoraApproximation
from studio.formats.plain_files import (
    DTYPES,
    PLAIN_LAYOUTS,
    BaseDescription,
    check_free,
    check_output,
    complete,
    write_plain,
)
from studio.layers.low_rank import LowRank, balanced, svd
from studio.layers.rank_choice import RankChoice
from studio.layers.target_modules import Site, find_sites
from studio.models.checkpoints.lazy_reading import LazyCheckpoint, open_lazily

DEFAULT_RANK = 4
"""The default of sd-scripts' extract_lora_from_models.py (--dim)."""

# diffusers 0.42 does not read its rank, and sd-scripts has no LoRA of it
_PROJECTION = "text_projection"


@dataclass(frozen=True)
class Extracted:
    """The written file or folder, the rank of each changed layer by its name, and the quality of the extraction.

    `error` is the relative error of the written factors, in the Frobenius norm over all these layers.
    `lost` counts the changed tensors that a LoRA cannot store, by kind: norms, biases, embeddings, text
    projections or others. SDXL's text projection is left out, since diffusers cannot load it with a rank of its own.
    """

    path: Path
    ranks: dict[str, int]
    error: float
    lost: dict[str, int]

    @property
    def rank(self) -> int:
        """The largest rank of a layer."""
        return max(self.ranks.values())


@torch.no_grad()
def extract_lora(
    base: str,
    tuned: str,
    output: Path | str,
    ranks: RankChoice | None = None,
    layout: str = "kohya",
    dtype: str = "float32",
    on_layer: Callable[[int, int], None] = lambda _done, _all: None,
) -> Extracted:
    """Write the LoRA that turns the checkpoint `base` into `tuned`: for each linear and convolution layer of the UNet
    and the text encoders, except the text projection, the nearest product to W_tuned − W_base (out, in), by singular
    value decomposition.

    Both are "toybox", a diffusers folder or a .safetensors file of the same architecture, and are read layer by layer.
    `ranks` is rank 4 if None; layers that are equal are left out. `layout` is kohya or diffusers, a .safetensors file,
    or peft, a folder. `on_layer` is called with the number of layers done and of all. Raises StudioError for
    checkpoints that cannot be read, are of different architectures, or have equal layers, and for an output that
    exists; nothing is written then.
    """
    output, ranks = Path(output), ranks or RankChoice(DEFAULT_RANK)
    if layout not in PLAIN_LAYOUTS:
        raise StudioError(f"There is no format {layout!r} of a LoRA. Choose from {', '.join(PLAIN_LAYOUTS)}.")
    check_output(layout, output, dtype)
    check_free(output)
    with open_lazily(base) as first, open_lazily(tuned) as second:
        _check_alike(first, second)
        sites = find_sites(first.parts, EVERY_MATRIX)
        matrices = [site for site in sites.values() if site.role != "norm" and site.attribute != _PROJECTION]
        found = _Differences(first, second, ranks, DTYPES[dtype] or torch.float32)
        for index, site in enumerate(matrices):
            found.add(site)
            on_layer(index + 1, len(matrices))
        lost = _lost(first, second, matrices)
        if not found.factors:
            raise StudioError(_equal(first.name, second.name, lost))
        plain = LoraApproximation(found.factors, {}, {}, (found.squared_error / found.squared_size) ** 0.5)
        description = BaseDescription(sites, first.family, second.prediction, Path(first.name).name)
    origin = {"base_name": description.name, "tuned_name": Path(second.name).name}
    with complete(output) as place:
        write_plain(plain, description, layout, place, DTYPES[dtype], {METADATA: json.dumps(origin, sort_keys=True)})
    return Extracted(output, {name: each.rank for name, each in plain.factors.items()}, plain.error, lost)


class _Differences:
    """The factors of the layers that differ, with the squared norms of the differences and of the errors."""

    def __init__(self, first: LazyCheckpoint, second: LazyCheckpoint, ranks: RankChoice, dtype: torch.dtype):
        self.factors: dict[str, LowRank] = {}
        self.squared_size = self.squared_error = 0.0
        self._first, self._second, self._ranks, self._dtype = first, second, ranks, dtype

    def add(self, site: Site) -> None:
        """Adds the layer's difference, unless it is zero."""
        delta = difference(self._first, self._second, site.part, f"{site.name.removeprefix(f'{site.part}.')}.weight")
        if not delta.any():
            return
        u, s, vt = svd(delta.flatten(1))
        rounded = balanced(u, s, vt, self._ranks.of(s, tuple(delta.shape[2:]))).to(self._dtype)
        self.factors[site.name] = rounded.to(torch.float32)
        self.squared_size += float(s.square().sum())
        self.squared_error += float((delta.flatten(1) - rounded.to(torch.float64).dense()).square().sum())


def difference(first: LazyCheckpoint, second: LazyCheckpoint, part: str, key: str) -> Tensor:
    """What `second` has more than `first` in one tensor, float64."""
    return second.tensor(part, key).double() - first.tensor(part, key).double()


def _check_alike(first: LazyCheckpoint, second: LazyCheckpoint) -> None:
    if first.family is not second.family:
        raise StudioError(
            f"{first.name} is {first.family.title}, and {second.name} is {second.family.title}. Give two checkpoints "
            "of the same family."
        )
    unequal = [key for key, shape in first.shapes.items() if second.shapes.get(key) != shape]
    if unequal or len(first.shapes) != len(second.shapes):
        part, key = unequal[0] if unequal else next(key for key in second.shapes if key not in first.shapes)
        raise StudioError(
            f"{first.name} and {second.name} have different architectures: {key} of the {part} differs in its size. "
            "Give two checkpoints of the same architecture."
        )


def _lost(first: LazyCheckpoint, second: LazyCheckpoint, matrices: Iterable[Site]) -> dict[str, int]:
    """How many tensors differ beside the matrices, by kind."""
    held = {f"{site.name}.weight" for site in matrices}
    modules = {part: dict(root.named_modules()) for part, root in first.parts.items()}
    kinds = [
        _kind(modules[part][key.rpartition(".")[0]], key)
        for part, key in first.shapes
        if f"{part}.{key}" not in held and difference(first, second, part, key).any()
    ]
    return dict(Counter(kinds))


def _kind(module: nn.Module, key: str) -> str:
    if isinstance(module, nn.LayerNorm | nn.GroupNorm):
        return "norms"
    if isinstance(module, nn.Embedding):
        return "embeddings"
    if key.startswith(_PROJECTION):
        return "text projections"
    return "biases" if key.endswith(".bias") else "others"


def _equal(base: str, tuned: str, lost: Mapping[str, int]) -> str:
    said = f"{base} and {tuned} have the same linear and convolution layers, so that there is no LoRA to extract"
    if lost:
        said += f", only changed {' and '.join(lost)}, which a LoRA cannot store"
    return f"{said}. Give two different checkpoints."
