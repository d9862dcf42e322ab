"""Singular value decompositions of matrices and of low-rank products."""

import pytest
import torch

from studio.layers.low_rank import LowRank, balanced, compressed, product_svd, svd, truncated


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5), (9, 8)])
def test_a_matrix_of_any_shape_is_decomposed(shape: tuple[int, int]):
    matrix = random(*shape)
    u, s, vt = svd(matrix)
    least = min(shape)
    assert (u.shape, s.shape, vt.shape) == ((shape[0], least), (least,), (least, shape[1]))
    assert torch.allclose(s, torch.linalg.svdvals(matrix), rtol=1e-12)
    assert torch.allclose(u @ torch.diag(s) @ vt, matrix, atol=1e-12)
    identity = torch.eye(least, dtype=torch.float64)
    assert torch.allclose(u.mT @ u, identity, atol=1e-12)
    assert torch.allclose(vt @ vt.mT, identity, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_a_product_is_compressed_as_its_matrix(rank: int):
    product = LowRank(random(20, 6), random(6, 50, seed=1))
    found = compressed(product, rank)
    assert found.rank == min(rank, 6)
    assert torch.allclose(found.dense(), truncated(product.dense(), rank).dense(), atol=1e-12)
    u, s, vt = product_svd(product)
    assert len(s) == 6
    assert torch.allclose(balanced(u, s, vt, 6).dense(), product.dense(), atol=1e-12)


def test_a_product_wider_than_its_matrix_has_fewer_values():
    product = LowRank(random(3, 6), random(6, 50, seed=1))
    u, s, vt = product_svd(product)
    assert (u.shape, len(s), vt.shape) == ((3, 3), 3, (3, 50))
    assert torch.allclose(balanced(u, s, vt, 3).dense(), product.dense(), atol=1e-12)
