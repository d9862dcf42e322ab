import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from concepts.errors import StudioError
from studio.adapters.injection import inject
from studio.adapters.lora import Lora
from studio.adapters.registry import create_adapters
from studio.adapters.spectral_additive import SpectralAdditive
from studio.layers.svd_basis import Decomposition
from studio.layers.target_modules import Site, find_sites

Models = tuple[UNet2DConditionModel, CLIPTextModel, CLIPTokenizer]


@pytest.fixture
def models(unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer) -> Models:
    return unet, text_encoder, tokenizer


def predict(models: Models) -> Tensor:
    unet, text_encoder, tokenizer = models
    states = text_encoder(tokenizer("a cat", return_tensors="pt").input_ids).last_hidden_state
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return unet(noisy, torch.tensor([5]), states).sample


@pytest.mark.parametrize(
    ("name", "config"), [("lora", Lora.Config(4)), ("spectral_additive", SpectralAdditive.Config(4))]
)
@pytest.mark.parametrize("kinds", [("attention",), ("attention", "feed_forward", "convolution")])
def test_a_whole_model_adapts_trains_and_comes_back(models: Models, name: str, config: object, kinds: tuple[str, ...]):
    unet, text_encoder, _ = models
    sites = find_sites({"unet": unet, "text_encoder": text_encoder}, kinds)
    before = predict(models)
    adapters = create_adapters(name, config, sites, Decomposition.of(sites))
    injection = inject(sites, adapters)
    assert torch.equal(predict(models), before)
    predict(models).square().mean().backward()
    assert all(any(p.grad is not None for p in adapter.parameters()) for adapter in adapters.values())
    for adapter in adapters.values():
        for parameter in adapter.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    assert not torch.allclose(predict(models), before)
    injection.eject()
    injection.eject()
    assert torch.equal(predict(models), before)


def test_fresh_adapters_differ_between_sites(sites: dict[str, Site]):
    adapters = create_adapters("lora", Lora.Config(4), sites, Decomposition.of(sites), seed=3)
    first, second, *_ = (adapter for adapter in adapters.values() if isinstance(adapter, Lora))
    assert not torch.equal(first.down, second.down)
    again = create_adapters("lora", Lora.Config(4), sites, Decomposition.of(sites), seed=3)
    assert torch.equal(first.down, next(iter(again.values())).state_dict()["down"])


def test_what_does_not_fit_is_refused_before_anything_changes(
    sites: dict[str, Site], unet: UNet2DConditionModel, text_encoder: CLIPTextModel
):
    name = next(iter(sites))
    adapters = create_adapters("lora", Lora.Config(2), sites, Decomposition.of(sites))
    with pytest.raises(StudioError, match="no layer elsewhere"):
        inject(sites, {name: adapters[name], "elsewhere": adapters[name]})
    assert all(getattr(site.parent, site.attribute) is site.module for site in sites.values())
    injection = inject(sites, {name: adapters[name]})
    with pytest.raises(StudioError, match="already adapted"):
        inject(sites, adapters)
    found = find_sites({"unet": unet, "text_encoder": text_encoder})
    with pytest.raises(StudioError, match="already adapted"):
        inject(found, {name: adapters[name]})
    injection.eject()
    inject(sites, adapters)


def test_an_unknown_method_is_refused_with_those_there_are(sites: dict[str, Site]):
    with pytest.raises(StudioError, match=r"'lorra'.*lora, spectral_additive"):
        create_adapters("lorra", None, sites, Decomposition.of(sites))
