"""Base class of the adapters that train a concept's own singular columns.

Singular column i of a weight W = U S Vᵀ is its i-th singular triplet: column i of U, singular value i, column i of V.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.adapters.base import Adapter, SiteContext, check_columns, check_range
from studio.layers.random_bases import orthogonal_rows
from studio.layers.svd_basis import SingularColumns, singular_columns

Columns = Literal["top", "bottom", "random_basis", "sampled"]
ScaleForm = Literal["factor", "summand"]


class OwnColumns(Adapter):
    """Keeps the concept's own r singular columns of W = U S Vᵀ, which stay frozen: U₁ (out, r), S₁ (r,), V₁ (in, r).

    They are [first_column, first_column + r) counted from the largest singular value, or by `columns` from the smallest
    of this matrix; or those of `indices`; or columns of a random orthonormal basis in place of U and V, with the
    matrix's root mean square singular value as S (Zhang and Pilanci, 2024, "Spectral Adapter", compare top, bottom and
    random). `sampled` draws the indices by the seed and the concept's name, without coordination between concepts.

    Each method changes U₁ and V₁ in its own way; `train_scale` trains s (r,) from zero as well. In its `scale_form`
    "factor" S₁ becomes S₁ (1 + s), which is the authors' code of the rotational form; in "summand" it becomes S₁ + s,
    their code of the additive form.
    """

    @dataclass(frozen=True)
    class Config:
        """Options: how many columns, and which; whether each column's scale is trained too, and in which form.

        `sampled_from` is set by training, with the indices: how many columns they were drawn from.
        """

        rank: int = 8
        first_column: int = 0
        train_scale: bool = False
        scale_form: ScaleForm = "factor"
        columns: Columns = "top"
        indices: tuple[int, ...] | None = None
        seed: int = 0
        sampled_from: int | None = None

        @property
        def used(self) -> tuple[int, ...]:
            """The indices of the columns, in the order of the trained ones."""
            return tuple(self.indices or range(self.first_column, self.first_column + self.rank))

        @property
        def basis(self) -> tuple[str, int]:
            """What the indices count in: equal for concepts that can share a column."""
            return ("top" if self.columns == "sampled" else self.columns, self.seed * (self.columns == "random_basis"))

    config: Config
    uses_columns: ClassVar = True
    owns_block: ClassVar = True
    u: Tensor
    s: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, config: Config, context: SiteContext | None = None):
        super().__init__(weight, config, context)
        own = _own(weight, config, context.columns if context else None)
        for name, tensor in (("u", own.u), ("s", own.s), ("v", own.v)):
            self.register_buffer(name, tensor.to(weight.device), persistent=False)
        # A change starts at zero, so weight decay may apply to it.
        self.change_s = nn.Parameter(torch.zeros_like(self.s)) if config.train_scale else None

    def scale_change(self, strength: float = 1.0) -> Tensor | None:
        """What training added to S₁, (r,); the strength scales it. None without `train_scale`."""
        if self.change_s is None:
            return None
        change = strength * self.change_s
        return change if self.config.scale_form == "summand" else self.s * change

    @property
    def columns(self) -> SingularColumns:
        """The concept's own frozen columns of the base."""
        return SingularColumns(self.u, self.s, self.v)

    @classmethod
    def least_rank(cls, config: Config) -> int:
        """The smallest rank with something to train."""
        return 1

    @classmethod
    def check(cls, shape: tuple[int, ...], config: Config, name: str = "") -> None:
        """Besides the rank, the columns must exist."""
        check_range("rank", config.rank, cls.least_rank(config), min(shape), name)
        for option, known in (("columns", get_args(Columns)), ("scale_form", get_args(ScaleForm))):
            if (given := getattr(config, option)) not in known:
                raise StudioError(f"Choose {option} from {', '.join(known)}: {given!r} is none of them.")
        if config.indices is None:
            check_columns(shape, config, name)
            return
        if len(set(config.indices)) != config.rank or config.columns in ("bottom", "random_basis"):
            raise StudioError("Give `rank` different indices, of the top columns: leave the option columns out.")
        check_range("column", min(config.indices), 0, min(shape) - 1, name)
        check_range("column", max(config.indices), 0, min(shape) - 1, name)


def with_sampled_columns(config: OwnColumns.Config, capacity: int, name: str) -> OwnColumns.Config:
    """The configuration with `rank` of `capacity` indices, drawn by its seed and the concept's name."""
    drawn = Random(f"{config.seed}/{name}").sample(range(capacity), config.rank)
    return replace(config, indices=tuple(sorted(drawn)), sampled_from=capacity)


def _own(weight: Tensor, config: OwnColumns.Config, kept: SingularColumns | None) -> SingularColumns:
    """The columns of the configuration; `kept` are the top ones that the base stores."""
    out_features, in_features = weight.shape
    first, rank, least = config.first_column, config.rank, min(weight.shape)
    if config.columns == "random_basis":
        u, v = (
            orthogonal_rows(2 * config.seed + side, size, first, rank, weight.device).mT
            for side, size in enumerate((out_features, in_features))
        )
        return SingularColumns(u, (weight.float().norm() / least**0.5).expand(rank).clone(), v)
    if config.columns == "bottom":
        return singular_columns(weight).block(least - first - rank, rank)
    if config.indices is None:
        return (kept or singular_columns(weight)).block(first, rank)
    most = max(config.indices) + 1
    top = kept if kept and len(kept.s) >= most else singular_columns(weight, most)
    chosen = torch.tensor(config.indices, device=top.s.device)
    return SingularColumns(*(part.index_select(-1, chosen) for part in (top.u, top.s, top.v)))
