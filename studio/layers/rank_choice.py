"""Chooses the rank of a low-rank approximation from the singular values, by a number or by what is kept."""

from dataclasses import dataclass

import torch
from torch import Tensor

from concepts.errors import StudioError

DYNAMIC_METHODS = ("sv_fro", "sv_ratio", "sv_cumulative")


@dataclass(frozen=True)
class RankChoice:
    """The rank of each layer: `rank`, or by `method` with its `parameter`, and then at most `rank`; None: any rank.

    `conv_rank` replaces `rank` where the kernel is larger than 1x1. The methods are those of sd-scripts'
    resize_lora.py, with the smallest rank that fulfils them (sd-scripts takes one more): `sv_fro` keeps this fraction
    of the Frobenius norm, the root of the sum of the squared singular values; `sv_cumulative` this fraction of their
    sum; `sv_ratio` the values above the largest one divided by the parameter. Raises StudioError for ranks below 1, and
    for an unknown method or parameter.
    """

    rank: int | None = None
    method: str | None = None
    parameter: float | None = None
    conv_rank: int | None = None

    def __post_init__(self) -> None:
        for rank in (self.rank, self.conv_rank):
            if rank is not None and rank < 1:
                raise StudioError(f"rank {rank} is too low. Choose 1 or more.")
        if self.method is None:
            if self.parameter is not None:
                raise StudioError("--dynamic-param belongs to a --dynamic-method. Give one, or leave it out.")
        elif self.method not in DYNAMIC_METHODS:
            raise StudioError(
                f"There is no --dynamic-method {self.method!r}. Choose from {', '.join(DYNAMIC_METHODS)}."
            )
        else:
            self._check_parameter()

    def _check_parameter(self) -> None:
        value = self.parameter
        if self.method == "sv_ratio":
            if value is None or not 1 <= value < float("inf"):
                raise StudioError("--dynamic-method sv_ratio needs a --dynamic-param of 1 or more.")
        elif value is None or not 0 < value <= 1:
            raise StudioError(f"--dynamic-method {self.method} needs a --dynamic-param above 0 and at most 1.")

    def of(self, values: Tensor, kernel: tuple[int, ...] = ()) -> int:
        """The rank of a layer with these singular values (k,), the largest first: from 1 to k."""
        large = any(side > 1 for side in kernel)
        most = self.conv_rank if large and self.conv_rank is not None else self.rank
        return max(1, min(self._dynamic(values.double()), len(values) if most is None else most))

    def _dynamic(self, values: Tensor) -> int:
        if self.parameter is None:
            return len(values)
        if self.method == "sv_ratio":
            return int((values > values[0] / self.parameter).sum())
        powers, share = (values.square(), self.parameter**2) if self.method == "sv_fro" else (values, self.parameter)
        sums = torch.cumsum(powers, 0)
        return int((sums < share * sums[-1]).sum()) + 1
