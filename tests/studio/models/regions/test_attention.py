from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from concepts.errors import StudioError
from studio.models.base_model import Base, generate, load_base
from studio.models.regions.attention import RegionProcessor, in_regions
from studio.models.regions.layout import RegionLayout
from studio.models.regions.region import AnyRegion, AutoRegion, Region, grid
from studio.models.sampling_settings import SamplingSettings

LEFT, RIGHT = Region("a dog", 0, 0, 1, 0.5), Region("a cat", 0, 0.5, 1, 1)
TOKENS = 3


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(0)
    return Attention(query_dim=8, cross_attention_dim=6, heads=2, dim_head=4).eval()


@pytest.fixture
def cells() -> torch.Tensor:
    """The positions of a 4x4 grid, (2, 16, 8)."""
    return torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(1))


def context(*seeds: int) -> torch.Tensor:
    """TOKENS tokens for the prompt and for each region, (2, tokens, 6)."""
    parts = [torch.randn(1, TOKENS, 6, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.cat(parts, 1).repeat(2, 1, 1)


def layout_processor(regions: list[AnyRegion], aspect: float = 1.0) -> RegionProcessor:
    return RegionProcessor(RegionLayout(regions, aspect))


def use(attention: Attention, processor: Any) -> None:
    attention.set_processor(processor)


@pytest.mark.parametrize(
    "box", [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.4), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, float("nan"), 1, 1), (2, 2, 9, 9)]
)
def test_a_box_that_is_none_is_refused(box: tuple[float, float, float, float]):
    with pytest.raises(StudioError, match="top,left,bottom,right"):
        Region("a dog", *box)


def test_a_region_covers_the_cells_whose_centre_it_holds():
    rows = Region("a dog", 0.25, 0.0, 0.5, 0.4).coverage(4, 4)
    assert rows.int().tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    for side in (2, 4, 8, 16):
        left, right = LEFT.coverage(side, side), RIGHT.coverage(side, side)
        assert left[:, : side // 2].all()
        assert torch.equal(left, 1 - right)


def test_every_position_reads_its_regions_or_else_the_prompt():
    top, corner = Region("a cat", 0, 0, 0.5, 1), Region("a dog", 0, 0, 1, 0.5)
    mask = layout_processor([top, corner]).bias(4, 3 * TOKENS)
    assert mask.shape == (1, 4, 3 * TOKENS)
    reads = (mask[0] == 0).view(4, 3, TOKENS)
    assert torch.equal(reads.all(-1), reads.any(-1))
    prompt, cat, dog = reads.any(-1).int().T.tolist()
    assert (prompt, cat, dog) == ([0, 0, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0])


def test_the_grid_follows_the_pictures_shape():
    assert [grid(32, aspect) for aspect in (2, 0.5, 8)] == [(4, 8), (8, 4), (2, 16)]
    wide = layout_processor([LEFT, RIGHT], aspect=2).bias(8, 3 * TOKENS)
    reads = (wide[0] == 0).view(2, 4, 3, TOKENS).all(-1)
    assert reads[:, :2, 1].all()
    assert reads[:, 2:, 2].all()
    assert reads.sum() == 8


def test_no_position_outside_reads_a_region_and_none_inside_the_prompt(attention: Attention, cells: torch.Tensor):
    use(attention, layout_processor([LEFT]))
    before = attention(cells, context(1, 2)).unflatten(1, (4, 4))
    other_region = attention(cells, context(1, 3)).unflatten(1, (4, 4))
    other_prompt = attention(cells, context(4, 2)).unflatten(1, (4, 4))
    assert torch.equal(before[:, :, 2:], other_region[:, :, 2:])
    assert (before[:, :, :2] != other_region[:, :, :2]).any(-1).all()
    assert torch.equal(before[:, :, :2], other_prompt[:, :, :2])
    assert (before[:, :, 2:] != other_prompt[:, :, 2:]).any(-1).all()


def test_inside_a_region_attention_is_to_the_regions_prompt(attention: Attention, cells: torch.Tensor):
    use(attention, AttnProcessor2_0())
    left, right = (attention(cells, context(seed)).unflatten(1, (4, 4)) for seed in (2, 3))
    use(attention, layout_processor([LEFT, RIGHT]))
    both = attention(cells, context(1, 2, 3)).unflatten(1, (4, 4))
    torch.testing.assert_close(both[:, :, :2], left[:, :, :2])
    torch.testing.assert_close(both[:, :, 2:], right[:, :, 2:])


def test_outside_found_regions_the_names_of_their_concepts_are_not_read():
    named = torch.tensor([[[0.0, 1, 0]], [[0.0, 0, 1]]])  # one concept in two images' prompts of three tokens
    layout = RegionLayout([AutoRegion("a photo of <rex>", ("<rex>",))], named=named, steps=4, coarsest=4)
    bias = RegionProcessor(layout).bias(16, 2 * TOKENS)
    assert torch.equal(bias[..., :TOKENS], torch.zeros(1, 16, TOKENS)), "while it is sought, all of the prompt is read"
    attention = torch.full((2, 16, TOKENS), 0.1)
    attention[0, :8, 1], attention[1, 8:, 2] = 0.9, 0.9
    layout.add(attention)
    assert layout.end_step()
    read, found = RegionProcessor(layout).bias(16, 2 * TOKENS).exp(), layout.inside(16)[0]
    assert found.amax(1).min() > 0.5
    torch.testing.assert_close(read[..., :TOKENS], (1 - found)[..., None] * (1 - named.amax(1))[:, None])
    torch.testing.assert_close(read[..., TOKENS:], found[..., None].expand(-1, -1, TOKENS))


def test_self_attention_is_left_as_it_is(cells: torch.Tensor):
    torch.manual_seed(0)
    attention = Attention(query_dim=8, heads=2, dim_head=4).eval()
    use(attention, AttnProcessor2_0())
    plain = attention(cells)
    use(attention, layout_processor([LEFT]))
    assert torch.equal(attention(cells), plain)


def test_a_region_too_small_for_a_grid_is_no_trouble_there(attention: Attention, cells: torch.Tensor):
    use(attention, layout_processor([Region("a dog", 0, 0, 0.1, 0.1)]))
    assert attention(cells, context(1, 2)).isfinite().all()


def test_the_unet_gets_its_attention_back(base: Base):
    unet = base.pipeline.unet
    before = unet.attn_processors
    with in_regions(unet, RegionLayout([])):
        assert unet.attn_processors == before
    with in_regions(unet, RegionLayout([LEFT])):
        assert all(isinstance(processor, RegionProcessor) for processor in unet.attn_processors.values())
    assert unet.attn_processors == before
    with pytest.raises(StudioError), in_regions(unet, RegionLayout([LEFT])):
        Region("a dog", 1, 1, 0, 0)
    assert unet.attn_processors == before


def test_a_regions_prompt_changes_only_its_half_of_the_picture():
    toybox = load_base("toybox", device="cpu")

    def generated(colour: str) -> np.ndarray:
        left = Region(f"a cat on a plain {colour} background", 0, 0, 1, 0.5)
        (picture,) = generate(
            toybox, "a house on a white background", [0], SamplingSettings(num_inference_steps=3), [left]
        )
        return np.asarray(picture, dtype=float)

    change = np.abs(generated("red") - generated("blue")).mean((0, 2))
    assert change[:64].mean() > 40
    assert change[:64].mean() > 2 * change[64:].mean()  # self-attention and convolutions carry a little across
