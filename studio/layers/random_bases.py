"""Frozen random tensors, which are not stored: they are generated from a seed and their shape."""

from functools import lru_cache

import torch
from torch import Tensor

from studio.layers.svd_basis import SingularColumns, singular_columns

# Layers of one shape share one tensor, so the returned tensors must not be modified.


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # cached tensors must also work in training
def uniform(seed: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """A matrix (rows, columns) of Kaiming's uniform distribution for ReLU: entries up to sqrt(6 / columns)."""
    if device.type == "meta":
        return torch.empty(rows, columns, device=device)
    bound = (6 / columns) ** 0.5
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(rows, columns).uniform_(-bound, bound, generator=generator).to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # cached tensors must also work in training
def orthogonal_rows(seed: int, size: int, first: int, count: int, device: torch.device) -> Tensor:
    """Rows [first, first + count) of the random orthogonal matrix (size, size) of a seed: (count, size).

    It is the Q of a Gaussian matrix, uniformly distributed over all rotations (Mezzadri, 2007).
    """
    if device.type == "meta":
        return torch.empty(count, size, device=device)
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(size, size, dtype=torch.float64, generator=generator)[:, : first + count]
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal().sign())[:, first:].T.float().contiguous().to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # cached tensors must also work in training
def gaussian_columns(seed: int, rows: int, columns: int, count: int) -> SingularColumns:
    """The first `count` singular columns of the Gaussian matrix (rows, columns) of a seed, whose entries have the
    variance 1 / columns of a Linear's initial weight.
    """
    generator = torch.Generator().manual_seed(seed)
    return singular_columns(torch.randn(rows, columns, generator=generator) / columns**0.5, count)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # cached tensors must also work in training
def smallest_singular_values(rows: int, columns: int, count: int) -> Tensor:
    """The `count` smallest singular values, falling, of a standard Gaussian matrix (rows, columns) of seed 0."""
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    return torch.linalg.svdvals(matrix)[-count:]
