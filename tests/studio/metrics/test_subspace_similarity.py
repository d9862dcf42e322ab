import math

import pytest
import torch

from studio.layers.low_rank import LowRank
from studio.layers.svd_basis import singular_columns
from studio.metrics.subspace_similarity import left_directions, pe_score, similarity_to_base, subspace_similarity


def test_similarity_is_one_inside_zero_across_and_the_mean_square_cosine_between():
    axes = torch.eye(6)
    assert subspace_similarity(axes[:, :2], axes[:, :4]) == 1
    assert subspace_similarity(axes[:, :2], axes[:, 2:5]) == 0
    turned = torch.stack([axes[:, 0] * 0.6 + axes[:, 3] * 0.8, axes[:, 1]], 1)
    assert subspace_similarity(axes[:, :2], turned) == pytest.approx((0.36 + 1) / 2)


def test_the_directions_of_a_change_are_its_left_singular_vectors():
    torch.manual_seed(0)
    change = LowRank(torch.randn(8, 3), torch.randn(3, 12))
    u = torch.linalg.svd(change.dense())[0][:, :2]
    found = left_directions(change, 2)
    assert subspace_similarity(found[:, :1].float(), u[:, :1]) == pytest.approx(1, abs=1e-5)
    assert left_directions(change, 5).shape == (8, 3)
    assert left_directions(LowRank(torch.zeros(8, 3), torch.randn(3, 12)), 2).shape == (8, 0)


def test_a_change_along_the_layers_own_directions_is_similar_to_it():
    torch.manual_seed(0)
    columns = singular_columns(torch.randn(8, 12))
    assert similarity_to_base(columns.u, LowRank(columns.u[:, :2], torch.randn(2, 12)), 2) == pytest.approx(1)
    across = LowRank(columns.u[:, 4:6], torch.randn(2, 12))
    assert similarity_to_base(columns.u, across, 2) == pytest.approx(0, abs=1e-9)
    assert similarity_to_base(columns.u, LowRank(torch.zeros(8, 2), torch.randn(2, 12)), 2) is None


def test_the_pe_score_falls_with_the_parameters():
    assert pe_score(0.8, 0, 10**8) == 0.8
    assert pe_score(0.8, 10**8, 10**8) == pytest.approx(0.8 * math.exp(-math.log10(2)))
    assert pe_score(0.8, 10_000, 10**8) > pe_score(0.8, 2_000_000, 10**8) > pe_score(0.8, 2_000_000, 10**7)
