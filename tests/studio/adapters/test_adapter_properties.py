"""What every adapter of weights promises, on every kind of layer and precision."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from studio.adapters import ADAPTERS, Adapter, SiteContext
from studio.adapters.base import added
from studio.adapters.boft import Boft
from studio.adapters.concept_file import TrainedConcept, build_adapters, from_bytes, to_bytes, trained_states
from studio.adapters.glora import Glora
from studio.adapters.injection import inject
from studio.adapters.krona import Krona
from studio.adapters.lidb import Lidb
from studio.adapters.lokr import Lokr
from studio.adapters.lora import Lora
from studio.adapters.oft import Oft
from studio.adapters.spectral_additive import SpectralAdditive
from studio.adapters.spectral_rotational import SpectralRotational
from studio.adapters.vera import Vera
from studio.layers.svd_basis import Decomposition
from studio.layers.target_modules import Role, Site

ELSEWHERE = {"ada_link", "layer_norm", "textual_inversion", "prompt_tuning", "prefix_tuning"}
"""Methods that adapt neither Linear nor Conv2d; tests/studio/adapters/test_other_adapters.py tests them."""


def default(method: type[Adapter]) -> object:
    if method is Boft:  # the input of 12 features has no blocks of the default size
        return Boft.Config(block_size=2, num_factors=2)
    fields = method.Config.__dataclass_fields__
    return method.Config(**({"rank": 3} if "rank" in fields else {}))


CASES = [
    *((name, default(method)) for name, method in ADAPTERS.items() if name not in ELSEWHERE),
    ("lora", Lora.Config(rank=4, alpha=2.0)),
    ("spectral_additive", SpectralAdditive.Config(rank=4, first_column=2, train_scale=True)),
    ("spectral_rotational", SpectralRotational.Config(rank=4, first_column=2, train_scale=True)),
    ("oft", Oft.Config(rank=2, shared=False)),
    ("vera", Vera.Config(rank=40)),
    ("lidb", Lidb.Config(rank=2, out_size=4, in_size=5, seed=3)),
    ("krona", Krona.Config(factor=3, scale=0.5)),
    ("krona", Krona.Config(residual=True)),
    ("lokr", Lokr.Config(rank=1, factor=2, alpha=3.0)),
    ("boft", Boft.Config(block_size=4, num_factors=1)),
    ("glora", Glora.Config(2, "vector", "scalar", "low_rank", "none", "scalar")),
    ("glora", Glora.Config(2, "scalar", "vector", "none", "none", "none")),
    ("glora", Glora.Config(2, "none", "low_rank", "scalar", "none", "vector")),
]
PROMISES_NO_ZERO = {"lora_xs"}
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


class Layer:
    """A model of one frozen layer, with an input for it."""

    def __init__(self, kind: str, bias: bool, dtype: torch.dtype):
        torch.manual_seed(0)
        if kind == "linear":
            module, self.x = nn.Linear(12, 10, bias=bias), torch.randn(2, 5, 12)
        else:
            module = nn.Conv2d(4, 10, 3, stride=2, padding=1, dilation=1, bias=bias, padding_mode="circular")
            self.x = torch.randn(2, 4, 7, 7)
        self.x = self.x.to(dtype)
        self.model = nn.Sequential(module).to(dtype).requires_grad_(False)
        self.sites = {"unet.0": Site("unet.0", "unet", self.model[0], self.model, "0")}  # pyright: ignore[reportArgumentType]
        self.site = self.sites["unet.0"]
        self.decomposition = Decomposition.of(self.sites)

    def adapter(self, name: str, config: object, role: Role = "matrix") -> Adapter:
        method = ADAPTERS[name]
        columns = self.decomposition.columns("unet.0") if method.uses_columns else None
        return method(self.site.weight, config, SiteContext(columns, seed=1, name="unet.0", role=role))

    def trained(self, name: str, config: object, role: Role = "matrix") -> Adapter:
        adapter = self.adapter(name, config, role)
        for parameter in adapter.parameters():
            nn.init.normal_(parameter, std=0.2)
        return adapter

    @torch.no_grad()
    def changed_by(self, adapter: Adapter) -> torch.Tensor:
        """The layer's output in float32, had it the weight and bias that the adapter says."""
        module, weight, bias = copy.deepcopy(self.site.module).float(), self.site.weight, self.site.bias
        module.weight.copy_((weight.float() + adapter.delta(weight)).reshape(module.weight.shape))
        changed = added(bias, adapter.bias_delta(weight, bias), torch.float32)
        module.register_parameter("bias", None if changed is None else nn.Parameter(changed.float()))
        return module(self.x.float())


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(params=["linear", "convolution"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def layer(request: pytest.FixtureRequest, kind: str, dtype: torch.dtype) -> Layer:
    return Layer(kind, request.param, dtype)


cases = pytest.mark.parametrize(("name", "config"), CASES, ids=lambda value: str(value))


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one.float() - other.float()).norm() / other.float().norm()).item()


@cases
def test_a_fresh_adapter_changes_nothing(layer: Layer, name: str, config: object):
    before = layer.model(layer.x)
    adapter = layer.adapter(name, config)
    inject(layer.sites, {"unet.0": adapter})
    if name in PROMISES_NO_ZERO:
        assert difference(layer.model(layer.x), before) < 1e-3
    else:
        assert torch.equal(layer.model(layer.x), before)
        assert not adapter.delta(layer.site.weight).any()


@cases
def test_the_forward_pass_is_that_of_the_changed_weight(layer: Layer, name: str, config: object):
    adapter = layer.trained(name, config)
    expected = layer.changed_by(adapter)
    injection = inject(layer.sites, {"unet.0": adapter})
    adapted = layer.model(layer.x)
    injection.eject()
    assert adapted.dtype == layer.x.dtype
    assert difference(adapted, layer.model(layer.x)) > 0.01
    assert difference(adapted, expected) < TOLERANCE[layer.x.dtype]


@cases
def test_the_adapter_applies_itself_to_a_matrix(dtype: torch.dtype, name: str, config: object):
    layer = Layer("linear", True, dtype)
    adapter, weight, bias = layer.trained(name, config), layer.site.weight, layer.site.bias
    assert bias is not None
    changed = added(bias.float(), adapter.bias_delta(weight, bias), torch.float32)
    expected = F.linear(layer.x.float(), weight.float() + adapter.delta(weight), changed)
    assert difference(adapter(layer.x, weight, bias), expected) < TOLERANCE[dtype]


@cases
def test_eject_restores_the_model_to_the_bit(layer: Layer, name: str, config: object):
    before, module = layer.model(layer.x), layer.model[0]
    state = {key: tensor.clone() for key, tensor in layer.model.state_dict().items()}
    injection = inject(layer.sites, {"unet.0": layer.trained(name, config)})
    assert not torch.equal(layer.model(layer.x), before)
    injection.eject()
    assert layer.model[0] is module
    assert torch.equal(layer.model(layer.x), before)
    assert state.keys() == layer.model.state_dict().keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in layer.model.state_dict().items())


@cases
def test_saving_and_loading_keep_the_delta(layer: Layer, name: str, config: object):
    adapter = layer.trained(name, config)
    concept = TrainedConcept(layer.decomposition.fingerprint, name, vars(config), trained_states({"unet.0": adapter}))
    loaded = build_adapters(from_bytes(to_bytes(concept), "test"), layer.sites, layer.decomposition)
    weight, bias = layer.site.weight, layer.site.bias
    assert torch.equal(loaded["unet.0"].delta(weight), adapter.delta(weight))
    before, after = adapter.bias_delta(weight, bias), loaded["unet.0"].bias_delta(weight, bias)
    assert before is after is None or (before is not None and after is not None and torch.equal(before, after))


@cases
def test_the_low_rank_form_is_the_delta_at_every_strength(layer: Layer, name: str, config: object):
    adapter, weight = layer.trained(name, config), layer.site.weight
    for strength in (1.0, 0.5, -1.0):
        low_rank, delta = adapter.low_rank(weight, strength), adapter.delta(weight, strength)
        assert low_rank.up.shape == (weight.shape[0], low_rank.rank)
        assert low_rank.down.shape == (low_rank.rank, weight.shape[1])
        torch.testing.assert_close(low_rank.up @ low_rank.down, delta, rtol=1e-5, atol=1e-5)
        assert low_rank.rank <= min(weight.shape)
    best = adapter.low_rank(weight, rank=1)
    assert best.rank <= 1
    zero = adapter.delta(weight, 0.0)
    assert not zero.any()
    if adapter.delta(weight).any():
        assert not torch.allclose(adapter.delta(weight, 0.5), adapter.delta(weight))


@cases
def test_gradients_reach_exactly_what_is_trained(layer: Layer, name: str, config: object):
    adapter = layer.trained(name, config)
    inject(layer.sites, {"unet.0": adapter})
    layer.model(layer.x).float().square().sum().backward()
    gradients = {key: p.grad for key, p in layer.model.named_parameters() if p.grad is not None}
    assert gradients.keys() == {f"0.adapter.{key}" for key, _ in adapter.named_parameters()}
    assert all(gradient.any() and gradient.dtype == torch.float32 for gradient in gradients.values())
    numbers = sum(parameter.numel() for parameter in adapter.parameters())
    assert numbers == type(adapter).num_parameters(layer.site.weight.shape, config)


@cases
def test_training_under_bfloat16_autocast_keeps_float32_parameters(kind: str, name: str, config: object):
    layer = Layer(kind, True, torch.float32)
    adapter = layer.trained(name, config)
    expected = layer.changed_by(adapter)
    inject(layer.sites, {"unet.0": adapter})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adapted = layer.model(layer.x)
    adapted.float().square().sum().backward()
    assert adapted.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in adapter.parameters())
    assert difference(adapted, expected) < TOLERANCE[torch.bfloat16]
