"""What adapters of norms, branches and text embeddings promise: the same as those of matrices."""

import copy

import pytest
import torch
from torch import nn
from transformers import CLIPTextModel

from studio.adapters import ADAPTERS, Adapter, SiteContext
from studio.adapters.ada_link import AdaLink
from studio.adapters.base import added
from studio.adapters.injection import inject
from studio.layers.target_modules import Role, Site, find_sites

NORMS = {"layer": lambda: nn.LayerNorm(12), "group": lambda: nn.GroupNorm(3, 12)}


def fresh(name: str, site: Site, role: Role) -> Adapter:
    return ADAPTERS[name](site.weight, ADAPTERS[name].Config(), SiteContext(name=site.name, role=role))


def trained(adapter: Adapter) -> Adapter:
    torch.manual_seed(1)
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.3)
    return adapter


def site_of(module: nn.Module, role: Role) -> tuple[nn.Sequential, Site]:
    model = nn.Sequential(module).requires_grad_(False)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return model, Site("unet.0", "unet", module, model, "0", role)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["layer_norm", "bitfit", "difffit"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_change_of_a_norm_is_applied_and_removed(name: str, norm: str):
    torch.manual_seed(0)
    model, site = site_of(NORMS[norm](), "norm")
    x = torch.randn(5, 12)
    before = model(x)
    inject(model_sites := {site.name: site}, {site.name: fresh(name, site, "norm")}).eject()
    adapter = fresh(name, site, "norm")
    injection = inject(model_sites, {site.name: adapter})
    assert torch.equal(model(x), before)
    trained(adapter)
    changed = copy.deepcopy(site.module)
    changed.weight.data += adapter.delta(site.weight)[:, 0]
    changed.bias = nn.Parameter(added(site.bias, adapter.bias_delta(site.weight, site.bias), torch.float32))  # pyright: ignore
    torch.testing.assert_close(model(x), changed(x))
    model(x).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in adapter.parameters())
    numbers = sum(parameter.numel() for parameter in adapter.parameters())
    assert numbers == type(adapter).num_parameters(tuple(site.weight.shape), adapter.config, "norm")
    injection.eject()
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("bias", [True, False])
def test_difffit_scales_the_last_layer_of_a_branch(bias: bool):
    torch.manual_seed(0)
    model, site = site_of(nn.Linear(12, 10, bias=bias), "branch_end")
    x = torch.randn(5, 12)
    before, adapter = model(x), fresh("difffit", site, "branch_end")
    injection = inject({site.name: site}, {site.name: adapter})
    assert torch.equal(model(x), before)
    trained(adapter)
    state = adapter.state_dict()
    torch.testing.assert_close(model(x), state["scale"] * (before + state["change_bias"]))
    changed = added(site.bias, adapter.bias_delta(site.weight, site.bias), torch.float32)
    expected = nn.functional.linear(x, site.weight + adapter.delta(site.weight), changed)
    torch.testing.assert_close(model(x), expected)
    assert adapter.num_parameters((10, 12), adapter.config, "branch_end") == 11
    assert not adapter.delta(site.weight, 0.0).any()
    injection.eject()
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("position", ["input", "output"])
def test_ada_link_adapts_the_text_embeddings(text_encoder: CLIPTextModel, position: str):
    config = AdaLink.Config(rank=2, position=position)  # pyright: ignore[reportArgumentType]
    sites = find_sites({"text_encoder": text_encoder}, AdaLink.kinds(config))
    (site,) = sites.values()
    ids = torch.tensor([[3, 5, 7]])
    before = text_encoder(ids).last_hidden_state
    adapter = AdaLink(site.weight, config)
    injection = inject(sites, {site.name: adapter})
    assert torch.equal(text_encoder(ids).last_hidden_state, before)
    trained(adapter)
    adapted = text_encoder(ids).last_hidden_state
    adapted.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in adapter.parameters())
    injection.eject()
    assert torch.equal(text_encoder(ids).last_hidden_state, before)
    matrix = site.weight + adapter.delta(site.weight)
    if position == "output":
        torch.testing.assert_close(adapted, before @ matrix.T)
    else:
        vocabulary = text_encoder.get_input_embeddings().weight
        vocabulary.data = vocabulary.data @ matrix.T  # pyright: ignore
        torch.testing.assert_close(adapted, text_encoder(ids).last_hidden_state)
