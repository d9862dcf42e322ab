import pytest
import torch

from studio.models.regions.masks import disjoint_masks, otsu_threshold


def blob(y: float, x: float, size: float = 2.5, side: int = 16) -> torch.Tensor:
    """A Gaussian bump at (y, x) in cells, (side, side)."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))


def test_two_objects_become_two_disjoint_masks():
    maps = torch.stack([blob(8, 3) + 0.3 * blob(8, 12), blob(8, 12) + 0.3 * blob(8, 3)])[None] + 0.1
    (masks,) = disjoint_masks(maps)
    assert masks.sum(0).max() <= 1 + 1e-5
    assert masks[0, 8, 3] > 0.9
    assert masks[1, 8, 12] > 0.9
    assert masks[0, :, 9:].max() < 0.2
    assert masks[1, :, :7].max() < 0.2
    assert masks[:, 0, 7:9].max() < 0.1


def test_concepts_that_both_attend_to_both_objects_get_one_each():
    both = blob(8, 3) + blob(8, 12)
    maps = torch.stack([both + 0.1 * blob(8, 3), both + 0.1 * blob(8, 12)])[None]
    (masks,) = disjoint_masks(maps)
    assert masks[0, 8, 3] > 0.9
    assert masks[1, 8, 12] > 0.9


def test_an_object_is_not_cut_by_a_speck_of_another_concepts_attention():
    speck = torch.zeros(16, 16)
    speck[8, 4] = 3.0
    maps = torch.stack([blob(8, 3), blob(8, 12) + speck])[None]
    (masks,) = disjoint_masks(maps)
    assert masks[0, 7:10, 2:6].min() > 0.9


@pytest.mark.parametrize("count", [1, 3, 5])
def test_every_concept_has_an_area_even_where_all_maps_are_alike(count: int):
    maps = (blob(8, 8, 5) + 0.01 * torch.rand(count, 16, 16, generator=torch.Generator().manual_seed(0)))[None]
    (masks,) = disjoint_masks(maps)
    assert (masks.flatten(1).amax(1) > 0.3).all()
    assert masks.sum(0).max() <= 1 + 1e-5


def test_maps_without_any_attention_are_no_trouble():
    masks = disjoint_masks(torch.zeros(2, 3, 8, 8))
    assert masks.isfinite().all()


def test_each_image_has_its_own_masks():
    maps = torch.stack([torch.stack([blob(8, 3), blob(8, 12)]), torch.stack([blob(3, 8), blob(12, 8)])])
    together = disjoint_masks(maps)
    torch.testing.assert_close(together, torch.cat([disjoint_masks(each[None]) for each in maps]))


def test_the_threshold_lies_between_two_groups_of_values():
    values = torch.cat([torch.full((100,), 0.2), torch.full((20,), 0.9)])
    assert 0.2 <= otsu_threshold(values) <= 0.9
