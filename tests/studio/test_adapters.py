import pytest
import torch

from studio.adapters import ADAPTERS, SiteContext
from studio.adapters.lora import Lora
from studio.adapters.spectral_additive import SpectralAdditive
from studio.decomposition import singular_columns
from studio.errors import StudioError


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("rank", [0, -1, 9])
def test_a_rank_outside_the_range_is_refused_with_the_range(name: str, rank: int):
    method = ADAPTERS[name]
    with pytest.raises(StudioError, match=r"rank from 1 to 8 at unet\.x: "):
        method(torch.randn(8, 12), method.Config(rank=rank), SiteContext(name="unet.x"))
    method(torch.randn(8, 12), method.Config(rank=8))


@pytest.mark.parametrize("first", [-1, 6])
def test_columns_that_do_not_exist_are_refused(first: int):
    config = SpectralAdditive.Config(rank=3, first_column=first)
    with pytest.raises(StudioError, match="first column from 0 to 5 for rank 3"):
        SpectralAdditive.check((8, 12), config)
    SpectralAdditive.check((8, 12), SpectralAdditive.Config(rank=3, first_column=5))


def test_lora_starts_from_the_seed_and_the_name():
    def down(seed: int, name: str) -> torch.Tensor:
        return Lora(torch.zeros(8, 12), Lora.Config(), SiteContext(seed=seed, name=name)).down

    assert torch.equal(down(1, "a"), down(1, "a"))
    assert not torch.equal(down(1, "a"), down(1, "b"))
    assert not torch.equal(down(1, "a"), down(2, "a"))


def test_loras_alpha_scales_the_delta_by_alpha_over_rank():
    weight = torch.zeros(8, 12)
    adapter = Lora(weight, Lora.Config(rank=4, alpha=2.0))
    torch.nn.init.normal_(adapter.up)
    torch.testing.assert_close(adapter.delta(weight), adapter.up @ adapter.down / 2)


@pytest.mark.parametrize("train_scale", [False, True])
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_spectral_additive_is_its_definition(train_scale: bool, strength: float):
    torch.manual_seed(0)
    weight = torch.randn(10, 14)
    adapter = SpectralAdditive(weight, SpectralAdditive.Config(3, first_column=2, train_scale=train_scale))
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    u, s, vt = torch.linalg.svd(weight, full_matrices=False)
    signs = (u[:, 2:5] * adapter.u).sum(0).round()
    u, s, v = u[:, 2:5] * signs, s[2:5], vt[2:5].T * signs
    scale = 1 + strength * adapter.change_s if adapter.change_s is not None else 1
    changed = (u + strength * adapter.change_u) * s * scale @ (v + strength * adapter.change_v).T
    torch.testing.assert_close(adapter.delta(weight, strength), changed - u * s @ v.T, rtol=1e-4, atol=1e-4)


def test_the_bases_columns_are_used_and_not_saved():
    weight = torch.randn(10, 14)
    columns = singular_columns(weight, 6)
    adapter = SpectralAdditive(weight, SpectralAdditive.Config(2, first_column=4), SiteContext(columns))
    assert torch.equal(adapter.u, columns.u[:, 4:])
    assert adapter.state_dict().keys() == {"change_u", "change_v"}
    with pytest.raises(StudioError, match="below 6"):
        SpectralAdditive(weight, SpectralAdditive.Config(2, first_column=5), SiteContext(columns))
