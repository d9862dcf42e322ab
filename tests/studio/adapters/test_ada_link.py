"""AdaLink's variants: of the latents, non-linear, and with dropout."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from concepts.errors import StudioError
from studio.adapters.ada_link import AdaLink
from studio.adapters.base import SiteContext
from studio.adapters.injection import inject
from studio.models.base_model import Base


def trained(adapter: AdaLink) -> AdaLink:
    torch.manual_seed(1)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return adapter


def test_the_latents_first_features_are_adapted(base: Base):
    config = AdaLink.Config(rank=2, position="latents")
    sites = base.sites_of(AdaLink.kinds(config))
    ((name, site),) = sites.items()
    assert name == "unet.conv_in"
    channels = base.pipeline.unet.conv_in.out_channels
    assert site.weight.shape == (channels, channels)
    adapter, x = trained(AdaLink(site.weight, config)), torch.randn(2, base.pipeline.unet.config.in_channels, 8, 8)
    before = base.pipeline.unet.conv_in(x)
    injection = inject(sites, {name: adapter})
    after = base.pipeline.unet.conv_in(x)
    injection.eject()
    matrix = site.weight + adapter.delta(site.weight)
    torch.testing.assert_close(after, torch.einsum("nchw,dc->ndhw", before, matrix))
    assert torch.equal(base.pipeline.unet.conv_in(x), before)


@pytest.mark.parametrize("position", ["input_and_latents", "output_and_latents"])
def test_text_and_latents_have_matrices_of_their_own(base: Base, position: Any):
    sites = base.sites_of(AdaLink.kinds(AdaLink.Config(position=position)))
    assert {site.part for site in sites.values()} == {"unet", "text_encoder"}


def test_a_non_linear_link_is_written_out():
    adapter, x = trained(AdaLink(torch.eye(6), AdaLink.Config(rank=2, activation="gelu"))), torch.randn(3, 6)
    expected = x + F.gelu(x @ adapter.down.mT) @ adapter.up.mT
    torch.testing.assert_close(adapter(x, torch.eye(6), None), expected)
    half = x + 0.5 * F.gelu(x @ adapter.down.mT) @ adapter.up.mT
    torch.testing.assert_close(adapter.change_output(x, x, 0.5), half)
    assert adapter.acts_on_output
    assert not adapter.delta(torch.eye(6)).any()


def test_dropout_acts_in_training_alone_and_a_step_can_be_repeated():
    config = AdaLink.Config(rank=2, dropout=0.5)
    adapter, x = trained(AdaLink(torch.eye(64), config, SiteContext(seed=3, name="t"))), torch.randn(5, 64)
    with torch.no_grad():
        whole = adapter(x, torch.eye(64), None)
    torch.testing.assert_close(whole, x + x @ adapter.delta(torch.eye(64)).mT)
    first, again = (adapter(x, torch.eye(64), None) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, whole)
    AdaLink.after_step({"t": adapter}, 7, 10)
    state, other = adapter.training_state(), adapter(x, torch.eye(64), None)
    assert not torch.equal(other, first)
    resumed = AdaLink(torch.eye(64), config, SiteContext(seed=3, name="t"))
    resumed.resume(state)
    assert torch.equal(resumed(x, torch.eye(64), None), other)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_dropout_outside_the_range_is_refused(dropout: float):
    with pytest.raises(StudioError, match=r"dropout .* is outside the range"):
        AdaLink.check((8, 8), AdaLink.Config(rank=2, dropout=dropout))
