import pytest
import torch
from torch import nn

from concepts.errors import StudioError
from studio.adapters.base import SiteContext
from studio.adapters.injection import inject
from studio.adapters.t_lora import TLora
from studio.layers.target_modules import Site
from studio.layers.timesteps import CURRENT

UNET = SiteContext(name="unet.0")


@pytest.fixture(autouse=True)
def at_the_start(monkeypatch):
    """Every test begins and ends without timesteps."""
    monkeypatch.setattr(CURRENT, "fractions", None)


def trained(weight: torch.Tensor, context: SiteContext = UNET, **options: object) -> TLora:
    adapter = TLora(weight, TLora.Config(rank=4, **options), context)  # pyright: ignore[reportArgumentType]
    for parameter in adapter.parameters():
        nn.init.normal_(parameter)
    return adapter


def test_each_row_has_the_rank_of_its_own_timestep():
    """Soboleva et al., 2025, Eq. 3: r(t) = floor((r - r_min) (T - t) / T) + r_min, here 4 at t = 0 and 2 at t = T."""
    torch.manual_seed(0)
    weight, x = torch.randn(6, 8), torch.randn(4, 5, 8)
    adapter = trained(weight, alpha=2.0)
    CURRENT.fractions = torch.tensor([0.0, 0.4, 0.6, 1.0])
    output = adapter(x, weight, None)
    for row, rank in enumerate((4, 3, 2, 2)):
        up = (adapter.start_up + adapter.up) * (adapter.start_values + adapter.values)
        down = adapter.start_down + adapter.down
        up, down = up[:, :rank], down[:rank]
        start = adapter.start_up[:, :rank] * adapter.start_values[:rank] @ adapter.start_down[:rank]
        delta = 0.5 * (up @ down - start)
        torch.testing.assert_close(output[row], x[row] @ (weight + delta).mT, rtol=1e-4, atol=1e-4)


def test_one_timestep_stands_for_all_rows_and_guidance():
    weight, x = torch.randn(6, 8), torch.randn(4, 5, 8)
    adapter = trained(weight, min_rank=1)
    CURRENT.fractions = torch.tensor([0.5])
    both = adapter(x, weight, None)
    CURRENT.fractions = torch.full((4,), 0.5)
    assert torch.equal(adapter(x, weight, None), both)


def test_the_start_is_orthonormal_and_changes_nothing():
    weight = torch.randn(6, 8)
    adapter = TLora(weight, TLora.Config(rank=4), UNET)
    torch.testing.assert_close(adapter.start_up.mT @ adapter.start_up, torch.eye(4), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(adapter.start_down @ adapter.start_down.mT, torch.eye(4), rtol=1e-5, atol=1e-5)
    assert (adapter.start_values.diff() <= 0).all()
    assert not adapter.delta(weight).any()


def test_the_text_encoder_has_no_timestep():
    weight, x = torch.randn(6, 8), torch.randn(4, 5, 8)
    adapter = trained(weight, SiteContext(name="text_encoder.0"))
    CURRENT.fractions = torch.tensor([1.0])
    torch.testing.assert_close(adapter(x, weight, None), x @ (weight + adapter.delta(weight)).mT, rtol=1e-4, atol=1e-4)
    assert not adapter.acts_on_output


def test_a_convolution_is_masked_as_a_matrix_is():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1)).requires_grad_(False)
    site = Site("unet.0", "unet", model[0], model, "0")  # pyright: ignore[reportArgumentType]
    adapter, x = trained(site.weight), torch.randn(2, 4, 5, 5)
    before = model(x)
    injection = inject({"unet.0": site}, {"unet.0": adapter})
    CURRENT.fractions = torch.tensor([0.0, 1.0])
    after = model(x)
    injection.eject()
    alone = adapter.factors(site.weight)
    kernel = (alone.up @ alone.down).view(6, 4, 3, 3)
    whole = nn.functional.conv2d(x, kernel, padding=1)
    torch.testing.assert_close((after - before)[0], whole[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose((after - before)[1], whole[1], atol=1e-2)


@pytest.mark.parametrize("least", [0, 5])
def test_a_least_rank_outside_the_range_is_refused(least: int):
    with pytest.raises(StudioError, match=r"min_rank . is outside the range\. Choose one from 1 to 4"):
        TLora.check((6, 8), TLora.Config(rank=4, min_rank=least))
