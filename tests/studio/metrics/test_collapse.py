import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from studio.metrics.collapse import collapse, similarities, subject_crops

NAMES = ("rex", "milo")


def test_each_subject_that_is_itself_has_not_collapsed():
    found = collapse(NAMES, torch.eye(2).repeat(3, 1, 1), threshold=0.4)
    assert found.rate == 0
    assert torch.equal(found.confusion, torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
    assert found.columns == ("rex", "milo", "nobody")


def test_two_clones_are_one_collapse_and_the_confusion_says_of_whom():
    clones = torch.tensor([[0.9, 0.3], [0.8, 0.2]])  # both regions show rex
    found = collapse(NAMES, torch.stack([clones, torch.eye(2)]), threshold=None)
    assert found.rate == pytest.approx(0.25)
    assert found.confusion[1].tolist() == [0.5, 0.5, 0]
    assert found.similarity.tolist() == pytest.approx([0.95, 0.6])


def test_a_subject_that_looks_like_neither_is_nobody():
    faint = torch.tensor([[0.39, 0.1], [0.2, 0.41]])
    found = collapse(NAMES, faint[None], threshold=0.4)
    assert found.confusion.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert found.rate == 0.5
    assert collapse(NAMES, faint[None]).rate == 0


def test_regions_are_compared_with_the_mean_of_each_concepts_references():
    generator = torch.Generator().manual_seed(0)
    own = [F.normalize(torch.randn(4, 8, generator=generator), dim=-1) for _ in NAMES]
    regions = [F.normalize(own[0].mean(0), dim=0)[None], F.normalize(own[1].mean(0), dim=0)[None]]
    found = similarities(regions, own)
    assert found.shape == (1, 2, 2)
    torch.testing.assert_close(found.diagonal(dim1=1, dim2=2), torch.ones(1, 2))


def test_a_subject_is_cut_out_around_its_mask():
    levels = np.zeros((8, 16, 3), np.uint8)
    levels[2:6, 8:12] = 255
    mask = torch.zeros(2, 8, 16)
    mask[0, 2:6, 8:12] = 1
    inside, whole = subject_crops(Image.fromarray(levels), mask)
    assert inside.size == (4, 4)
    assert np.asarray(inside).min() == 255
    assert whole.size == (16, 8)
