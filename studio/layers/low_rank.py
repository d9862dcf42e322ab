"""Deltas of weights as low-rank products."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """The matrix up @ down of shape (out, in), stored as its two factors: up (out, r) and down (r, in)."""

    up: Tensor
    down: Tensor

    @property
    def rank(self) -> int:
        """The width r of the factors; the product's own rank may be lower."""
        return self.down.shape[0]

    def dense(self) -> Tensor:
        """The product up @ down, (out, in)."""
        return self.up @ self.down


def truncated(matrix: Tensor, rank: int) -> LowRank:
    """The nearest matrix of this rank (Eckart and Young, 1936), exact where the matrix's rank is no higher.

    `matrix` is (out, in). The singular values are shared evenly between both factors.
    """
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    root = s[:rank].sqrt()
    return LowRank((u[:, :rank] * root).to(matrix.dtype), (root[:, None] * v[:rank]).to(matrix.dtype))


def compressed(low_rank: LowRank, rank: int) -> LowRank:
    """The nearest product of at most this rank, by QR of the factors and an SVD of the small core."""
    if low_rank.rank <= rank:
        return low_rank
    left, upper = torch.linalg.qr(low_rank.up)
    right, lower = torch.linalg.qr(low_rank.down.mT)
    core = truncated(upper @ lower.mT, rank)
    return LowRank(left @ core.up, core.down @ right.mT)


def thin(matrix: Tensor, rank: int) -> LowRank:
    """As `truncated`, many times faster for a large matrix (out, in) whose own rank is at most `rank`.

    A random sketch finds such a matrix' column space exactly (Halko, Martinsson and Tropp, 2011, Theorem 1.1); where
    the relative error is above 1e-7, the full SVD is computed.
    """
    exact = matrix.double()
    generator = torch.Generator(device=matrix.device).manual_seed(0)
    probes = torch.randn(matrix.shape[1], rank, generator=generator, dtype=exact.dtype, device=matrix.device)
    space = torch.linalg.qr(exact @ probes).Q
    inside = space.mT @ exact
    if rank >= min(matrix.shape) or (exact - space @ inside).norm() > 1e-7 * exact.norm():
        return truncated(matrix, rank)
    core = truncated(inside, rank)
    return LowRank((space @ core.up).to(matrix.dtype), core.down.to(matrix.dtype))
