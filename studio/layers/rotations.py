"""The Cayley transform: rotations from skew-symmetric matrices."""

from functools import lru_cache

import torch
from torch import Tensor


def skew_size(size: int) -> int:
    """The number of free entries of a skew-symmetric matrix (size, size)."""
    return size * (size - 1) // 2


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # cached tensors must also work in training
def _upper_indices(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = torch.triu_indices(size, size, 1, device=device)
    return rows, columns


def skew(numbers: Tensor, size: int) -> Tensor:
    """The skew-symmetric matrices (…, size, size) whose upper triangles, row by row, are `numbers`
    (…, size (size - 1) / 2).
    """
    rows, columns = _upper_indices(size, numbers.device)
    upper = numbers.new_zeros(*numbers.shape[:-1], size, size)
    upper[..., rows, columns] = numbers
    return upper - upper.mT


def cayley_change(matrix: Tensor) -> Tensor:
    """Q − I for the Cayley transform Q = (I − S)⁻¹ (I + S) of each skew-symmetric S (…, n, n); exactly 0 for S = 0.

    Source: Qiu et al., 2023, "OFT", section 3.3.
    """
    identity = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)
    return torch.linalg.solve(identity - matrix, 2 * matrix)


def cayley_numbers(rotation: Tensor) -> Tensor:
    """The inverse Cayley transform: the upper triangles (…, n (n - 1) / 2) of S for these rotations (…, n, n)."""
    exact = rotation.double()
    identity = torch.eye(exact.shape[-1], device=exact.device, dtype=exact.dtype)
    matrix = torch.linalg.solve(exact + identity, exact - identity, left=False)
    rows, columns = _upper_indices(exact.shape[-1], exact.device)
    return ((matrix - matrix.mT) / 2)[..., rows, columns].to(rotation.dtype)
