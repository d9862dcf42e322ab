import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from studio.adapters import ADAPTERS
from studio.adapters.lora import Lora
from studio.adapters.spectral_additive import SpectralAdditive
from studio.errors import StudioError
from studio.sites import Site, find_sites


@pytest.fixture(scope="module")
def stable_diffusion() -> dict[str, nn.Module]:
    """Stable Diffusion 1.5 without weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64,
            block_out_channels=(320, 640, 1280, 1280),
            layers_per_block=2,
            attention_head_dim=8,
            cross_attention_dim=768,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408,
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
            )
        )
    return {"unet": unet, "text_encoder": text_encoder}


def total(sites: dict[str, Site], adapter: str, config: object) -> int:
    return sum(ADAPTERS[adapter].number_trained(site.weight.shape, config) for site in sites.values())


def test_stable_diffusion_has_176_attention_sites(stable_diffusion: dict[str, nn.Module]):
    sites = find_sites(stable_diffusion)
    assert sum(site.part == "unet" for site in sites.values()) == 128
    assert sum(site.part == "text_encoder" for site in sites.values()) == 48
    assert "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q" in sites
    assert min(min(site.weight.shape) for site in sites.values()) == 320


def test_the_published_totals_come_out(stable_diffusion: dict[str, nn.Module]):
    sites = find_sites(stable_diffusion)
    lora = {rank: total(sites, "lora", Lora.Config(rank=rank)) for rank in (1, 2, 3, 8)}
    assert lora == {1: 273_024, 2: 546_048, 3: 819_072, 8: 2_184_192}
    assert total(sites, "spectral_additive", SpectralAdditive.Config(rank=8)) == 2_184_192
    assert total(sites, "spectral_additive", SpectralAdditive.Config(rank=8, train_scale=True)) == 2_185_600


def test_other_kinds_of_layers(stable_diffusion: dict[str, nn.Module]):
    readers = find_sites(stable_diffusion, ("cross_attention_kv",))
    assert len(readers) == 2 * 16
    assert all(site.weight.shape[1] == 768 and site.part == "unet" for site in readers.values())
    assert len(find_sites(stable_diffusion, ("feed_forward",))) == 2 * 16 + 2 * 12
    convolutions = find_sites(stable_diffusion, ("convolution",))
    assert convolutions["unet.conv_in"].weight.shape == (320, 4 * 9)
    assert len(find_sites(stable_diffusion, ("attention", "cross_attention_kv"))) == 176


def test_a_site_views_the_layers_own_weight(sites: dict[str, Site], unet: nn.Module):
    layers = dict(unet.named_modules(prefix="unet"))
    assert all(site.module is layers[name] for name, site in sites.items() if site.part == "unet")
    for site in sites.values():
        assert site.weight.data_ptr() == site.module.weight.data_ptr()
        assert getattr(site.parent, site.attribute) is site.module


def test_unknown_or_missing_layers_are_refused(unet: nn.Module):
    with pytest.raises(StudioError, match=r"no kind .* 'atention'.*attention, cross_attention_kv"):
        find_sites({"unet": unet}, ("atention",))
    with pytest.raises(StudioError, match=r"No cross_attention_kv layers"):
        find_sites({"head": nn.Linear(2, 2)}, ("cross_attention_kv",))
