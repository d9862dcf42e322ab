"""The singular columns of a base model: computed once by a fixed algorithm, cached, fingerprinted.

A spectral concept is valid only with exactly the columns that it was trained on, so the columns belong to the base,
and a concept stores the base's fingerprint.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from concepts.errors import StudioError
from studio.layers.checksum import checksum
from studio.layers.target_modules import Site

RECIPE = "gram-eigh-ritz/3"
_MARGIN = 32
"""Extra directions that are computed beside those kept, for accuracy."""
# Below this share of the largest singular value the Gram matrix, which squares them, is not accurate.
_SMALLEST_BY_GRAM = 1e-4


@dataclass(frozen=True)
class SingularColumns:
    """Columns of W = U diag(s) Vᵀ, largest singular value first: u (out, k), s (k,), v (in, k), float32."""

    u: Tensor
    s: Tensor
    v: Tensor

    def block(self, first: int, count: int) -> "SingularColumns":
        """A copy of the columns [first, first + count); StudioError if fewer are stored."""
        last, stored = first + count, len(self.s)
        if last > stored:
            raise StudioError(f"Singular column {last - 1} was requested, and {stored} are stored. Choose lower ones.")
        u, s, v = (
            part[..., first:last].clone(memory_format=torch.contiguous_format) for part in (self.u, self.s, self.v)
        )
        return SingularColumns(u, s, v)


def singular_columns(weight: Tensor, count: int | None = None) -> SingularColumns:
    """The first `count` singular columns (all if None) of a weight (out, in), computed on the CPU.

    Every column satisfies |W v − s u| ≤ 1e-6 s₁ and |Wᵀ u − s v| ≤ 1e-4 s₁, and the entries of UᵀU − I and VᵀV − I
    are at most 1e-6 after the rounding to float32. The entry of largest magnitude in each column of U is positive.
    """
    count = min(weight.shape) if count is None else count
    if weight.is_meta:
        return SingularColumns(*(torch.empty(*size, device="meta") for size in _sizes(weight.shape, count)))
    matrix = weight.detach().to("cpu", torch.float64)
    tall = matrix.shape[0] >= matrix.shape[1]
    left, s, right = _top_columns(matrix if tall else matrix.T, count)
    u, v = (left, right) if tall else (right, left)
    peak = u.gather(0, u.abs().argmax(0, keepdim=True))
    signs = torch.where(peak < 0, -1.0, 1.0)
    return SingularColumns((u * signs).float().contiguous(), s.float(), (v * signs).float().contiguous())


def _sizes(shape: tuple[int, ...], count: int) -> tuple[tuple[int, ...], ...]:
    """The shapes of u, s and v."""
    return (shape[0], count), (count,), (shape[1], count)


def _top_columns(tall: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Left vectors, values and right vectors of a matrix (m, n), m ≥ n, by its Gram matrix where that is
    accurate.
    """
    directions = _leading_directions(tall, count + _MARGIN)
    image = tall if directions is None else tall @ directions
    values, rotation = torch.linalg.eigh(_lower_gram(image))
    s, rotation = values.flip(0)[:count].clamp(min=0).sqrt(), rotation.flip(1)[:, :count]
    if s[-1] <= _SMALLEST_BY_GRAM * s[0]:
        left, s, right_rows = torch.linalg.svd(tall, full_matrices=False)
        return left[:, :count], s[:count], right_rows[:count].T
    return image @ rotation / s, s, rotation if directions is None else directions @ rotation


def _leading_directions(tall: Tensor, count: int) -> Tensor | None:
    """Orthonormal directions (n, count) whose span has the leading right vectors of a matrix (m, n); None for all n.

    The subspace is found in float32, at half the cost of float64; within it the caller is exact (Rayleigh and Ritz).
    """
    if count >= tall.shape[1]:
        return None
    narrow = tall.float()
    found = torch.linalg.eigh(_lower_gram(narrow))[1].flip(1)[:, :count].double()
    lower = torch.linalg.cholesky(_lower_gram(found))
    return torch.linalg.solve_triangular(lower, found.T, upper=False).T


def _lower_gram(matrix: Tensor, strips: int = 4) -> Tensor:
    """The lower triangle of MᵀM (n, n) of M (m, n), for eigh and Cholesky."""
    size = matrix.shape[1]
    gram = matrix.new_zeros(size, size)
    edges = [size * strip // strips for strip in range(strips + 1)]
    for first, last in pairwise(edges):
        gram[first:, first:last] = matrix[:, first:].T @ matrix[:, first:last]
    return gram


def fingerprint(sites: Mapping[str, Site]) -> str:
    """A short hexadecimal hash of these sites' weights, in float32, so that it does not depend on their dtype."""
    digest = hashlib.sha256()
    for name in sorted(sites):
        weight = sites[name].weight.detach().to("cpu", torch.float32)
        digest.update(f"{name} {tuple(weight.shape)}\n".encode())
        digest.update(checksum(weight))
    return digest.hexdigest()[:16]


class Decomposition:
    """The singular columns of all of a base's sites, computed on first use.

    With a cache folder they are stored there once, as one safetensors file named by the fingerprint.
    """

    def __init__(self, sites: Mapping[str, Site], cache: Path | None = None, capacity: int | None = None):
        self.fingerprint = fingerprint(sites)
        self.capacity = capacity or min(min(site.weight.shape) for site in sites.values())
        self._sites, self._cache = dict(sites), cache
        self._others: dict[tuple[str, ...], Decomposition] = {}
        self._path = None if cache is None else Path(cache) / f"{self.fingerprint}-{self.capacity}.safetensors"

    @classmethod
    def of(cls, sites: Mapping[str, Site], cache: Path | None = None) -> "Decomposition":
        """The decomposition of these sites; `capacity`, the columns stored of each, is the narrowest site's rank."""
        return cls(sites, cache)

    def columns(self, site_name: str) -> SingularColumns:
        """The kept columns of one site; StudioError for a site that is not among those decomposed."""
        if site_name not in self._sites:
            raise StudioError(f"The base has no adapted layer {site_name}. Use a concept that was made for this base.")
        return self._columns[site_name]

    def columns_of(self, sites: Mapping[str, Site]) -> dict[str, SingularColumns]:
        """The columns of these sites; those of sites outside the decomposition are computed and cached as well."""
        others = {name: site for name, site in sites.items() if name not in self._sites}
        found = {name: self._columns[name] for name in sites if name in self._sites}
        if others:
            key = tuple(others)
            self._others[key] = self._others.get(key) or Decomposition(others, self._cache, self.capacity)
            found |= self._others[key]._columns
        return found

    def _kept(self, name: str) -> int:
        """How many columns of a site are stored."""
        return min(self.capacity, *self._sites[name].weight.shape)

    @cached_property
    def _columns(self) -> dict[str, SingularColumns]:
        stored = self._read()
        if stored is None:
            stored = self._compute()
            self._write(stored)
        return stored

    def _compute(self) -> dict[str, SingularColumns]:
        """Each site in its own thread on one core, since eigensolvers hardly scale to more."""
        threads = torch.get_num_threads()
        largest_first = sorted(self._sites, key=lambda name: -self._sites[name].weight.numel())
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                found = pool.map(self._computed, largest_first)
                made = dict(zip(largest_first, found, strict=True))
        finally:
            torch.set_num_threads(threads)
        return {name: made[name] for name in self._sites}

    def _computed(self, name: str) -> SingularColumns:
        return singular_columns(self._sites[name].weight, self._kept(name))

    def _read(self) -> dict[str, SingularColumns] | None:
        """The cached columns; None if there is no file, or it is truncated, of other weights, or altered."""
        if self._path is None or not self._path.exists():
            return None
        try:
            with safe_open(self._path, "pt") as file:
                metadata = file.metadata()
                stored = {
                    name: SingularColumns(*(file.get_tensor(f"{name}/{part}") for part in "usv"))
                    for name in self._sites
                }
        except (SafetensorError, OSError):
            return None
        fits = all(self._fits(name, columns) for name, columns in stored.items())
        return stored if fits and metadata == self._metadata(stored) else None

    def _fits(self, name: str, columns: SingularColumns) -> bool:
        out_features, in_features = self._sites[name].weight.shape
        shapes, kept = (columns.u.shape, columns.s.shape, columns.v.shape), self._kept(name)
        return shapes == ((out_features, kept), (kept,), (in_features, kept))

    def _write(self, columns: Mapping[str, SingularColumns]) -> None:
        """Write to a temporary file, flush and rename, so that a crash leaves a complete file or none."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"{name}/{part}": getattr(c, part) for name, c in columns.items() for part in "usv"}
        with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=self._path.parent) as folder:
            temporary, ordinary = Path(folder) / self._path.name, Path(folder) / "ordinary"
            save_file(tensors, temporary, self._metadata(columns))
            ordinary.touch()  # permissions by the umask, while safetensors gives them to the owner only
            temporary.chmod(ordinary.stat().st_mode)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, self._path)

    def _metadata(self, columns: Mapping[str, SingularColumns]) -> dict[str, str]:
        digest = hashlib.sha256()
        for name in sorted(columns):
            for part in (columns[name].u, columns[name].s, columns[name].v):
                digest.update(checksum(part))
        # One key only: safetensors writes several in no fixed order.
        return {"decomposition": f"{RECIPE} {self.fingerprint} {digest.hexdigest()}"}
