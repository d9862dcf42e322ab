"""Our deltas are PEFT's on the same parameters."""

from typing import Any

import pytest
import torch
from peft import BOFTConfig, IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, VeraConfig, get_peft_model
from torch import Tensor, nn

from studio.adapters.base import SiteContext
from studio.adapters.boft import Boft
from studio.adapters.dora import Dora
from studio.adapters.ia3 import Ia3
from studio.adapters.krona import Krona
from studio.adapters.loha import Loha
from studio.adapters.lokr import Lokr
from studio.adapters.lora import Lora
from studio.adapters.oft import Oft
from studio.adapters.pissa import Pissa
from studio.adapters.vera import Vera


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 20)).requires_grad_(False)


def frozen(parameter: Any) -> Tensor:
    return parameter.detach().clone()


def fill(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)


def peft_layer(model: nn.Sequential, config: Any) -> Any:
    """PEFT's layer around the model's only one, its parameters random."""
    adapted: Any = get_peft_model(model, config)  # pyright: ignore[reportArgumentType]
    fill(adapted)
    return adapted.base_model.model[0]


def merged(layer: Any) -> tuple[Tensor, Tensor]:
    """How PEFT's merge changes weight and bias."""
    weight, bias = layer.get_base_layer().weight.detach().clone(), layer.get_base_layer().bias.detach().clone()
    layer.merge()
    base = layer.get_base_layer()
    return base.weight.detach() - weight, base.bias.detach() - bias


def close(ours: Tensor, theirs: Tensor) -> bool:
    assert theirs.norm() > 0
    return ((ours - theirs).norm() / theirs.norm()).item() < 1e-5


def test_lora(model: nn.Sequential):
    weight = frozen(model[0].weight)
    layer = peft_layer(model, LoraConfig(r=4, lora_alpha=2, target_modules=["0"]))
    ours = Lora(weight, Lora.Config(rank=4, alpha=2))
    ours.load_state_dict({"down": layer.lora_A["default"].weight, "up": layer.lora_B["default"].weight})
    assert close(ours.delta(weight), layer.get_delta_weight("default"))


@pytest.mark.parametrize("alpha", [2, None])
def test_rank_stabilized_lora(model: nn.Sequential, alpha: int | None):
    weight = frozen(model[0].weight)
    layer = peft_layer(model, LoraConfig(r=4, lora_alpha=alpha or 4, use_rslora=True, target_modules=["0"]))
    ours = Lora(weight, Lora.Config(rank=4, alpha=alpha, rank_stabilized=True))
    ours.load_state_dict({"down": layer.lora_A["default"].weight, "up": layer.lora_B["default"].weight})
    assert close(ours.delta(weight), layer.get_delta_weight("default"))


def test_pissa(model: nn.Sequential):
    weight, bias = frozen(model[0].weight), frozen(model[0].bias)
    adapted: Any = get_peft_model(model, LoraConfig(r=4, lora_alpha=4, init_lora_weights="pissa", target_modules=["0"]))  # pyright: ignore[reportArgumentType]
    layer, ours = adapted.base_model.model[0], Pissa(weight, Pissa.Config(rank=4))
    x, start = torch.randn(5, 24), layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    assert close(ours.start_up @ ours.start_down, start.detach())
    assert torch.equal(ours(x, weight, bias), nn.functional.linear(x, weight, bias))
    changes = {"up": 0.3 * torch.randn(20, 4), "down": 0.3 * torch.randn(4, 24)}
    ours.load_state_dict(changes)
    signs = torch.sign((ours.start_down * layer.lora_A["default"].weight).sum(1))  # a singular vector's is free
    layer.lora_A["default"].weight.data += signs[:, None] * changes["down"]
    layer.lora_B["default"].weight.data += changes["up"] * signs
    assert close(ours(x, weight, bias).detach(), layer(x).detach())


def test_loha(model: nn.Sequential):
    weight = frozen(model[0].weight)
    for rank in (3, 5):  # below and above the rank at which factors are used
        adapted = nn.Sequential(nn.Linear(24, 20)).requires_grad_(False)
        layer = peft_layer(adapted, LoHaConfig(r=rank, alpha=2, target_modules=["0"]))
        ours = Loha(weight, Loha.Config(rank=rank, alpha=2))
        names = {"up_1": "hada_w1_a", "down_1": "hada_w1_b", "up_2": "hada_w2_a", "down_2": "hada_w2_b"}
        ours.load_state_dict({own: getattr(layer, name)["default"] for own, name in names.items()})
        assert (ours.factors(weight) is None) == (rank == 5)
        assert close(ours.delta(weight), layer.get_delta_weight("default"))
        x = torch.randn(5, 24)
        assert close(ours(x, weight, None), nn.functional.linear(x, weight + layer.get_delta_weight("default")))


def test_dora(model: nn.Sequential):
    weight = frozen(model[0].weight)
    layer = peft_layer(model, LoraConfig(r=4, lora_alpha=4, use_dora=True, target_modules=["0"]))
    ours = Dora(weight, Dora.Config(rank=4))
    magnitude = layer.lora_magnitude_vector["default"].weight
    factors = {"down": layer.lora_A["default"].weight, "up": layer.lora_B["default"].weight}
    ours.load_state_dict({"magnitude": magnitude, **factors})
    assert close(ours.delta(weight), merged(layer)[0])


def test_vera(model: nn.Sequential):
    weight = frozen(model[0].weight)
    layer = peft_layer(model, VeraConfig(r=6, target_modules=["0"]))
    ours = Vera(weight, Vera.Config(rank=6))
    ours.down, ours.up = layer.vera_A["default"], layer.vera_B["default"]
    ours.load_state_dict({"b": layer.vera_lambda_b["default"], "d": layer.vera_lambda_d["default"]})
    assert close(ours.delta(weight), layer.get_delta_weight("default"))


@pytest.mark.parametrize("shared", [True, False])
def test_oft(model: nn.Sequential, shared: bool):
    weight = frozen(model[0].weight)
    config = OFTConfig(r=4, oft_block_size=0, block_share=shared, use_cayley_neumann=False, target_modules=["0"])
    layer = peft_layer(model, config)
    ours = Oft(weight, Oft.Config(rank=4, shared=shared))
    ours.load_state_dict({"skew": layer.oft_R["default"].weight})
    assert close(ours.delta(weight), merged(layer)[0])


def test_ia3(model: nn.Sequential):
    weight, bias = frozen(model[0].weight), frozen(model[0].bias)
    layer = peft_layer(model, IA3Config(target_modules=["0"], feedforward_modules=[]))
    ours = Ia3(weight, Ia3.Config())
    ours.load_state_dict({"scale": layer.ia3_l["default"].flatten()})
    delta, bias_delta = merged(layer)
    assert close(ours.delta(weight), delta)
    change = ours.bias_delta(weight, bias)
    assert change is not None
    assert close(change, bias_delta)


def test_ia3_in_a_feed_forward_network(model: nn.Sequential):
    weight, bias = frozen(model[0].weight), frozen(model[0].bias)
    layer = peft_layer(model, IA3Config(target_modules=["0"], feedforward_modules=["0"]))
    ours = Ia3(weight, Ia3.Config(), SiteContext(role="branch_end"))
    ours.load_state_dict({"scale": layer.ia3_l["default"].flatten()})
    x = torch.randn(5, 24)
    assert close(ours(x, weight, bias), layer(x).detach())
    assert ours.bias_delta(weight, bias) is None
    assert close(ours.delta(weight), merged(layer)[0])


def test_krona_is_lokr(model: nn.Sequential):
    weight = frozen(model[0].weight)
    layer = peft_layer(model, LoKrConfig(r=64, alpha=64, decompose_factor=4, target_modules=["0"]))
    left, right = layer.lokr_w1["default"], layer.lokr_w2["default"]
    ours = Krona(weight, Krona.Config(factor=4))
    ours.load_state_dict({"left": left, "right": right})
    assert close(ours.delta(weight), layer.get_delta_weight("default"))


@pytest.mark.parametrize("alpha", [2, None])
def test_lokr_with_a_low_rank_factor(model: nn.Sequential, alpha: int | None):
    weight = frozen(model[0].weight)
    config = LoKrConfig(r=2, alpha=alpha or 2, decompose_factor=4, target_modules=["0"])
    layer = peft_layer(model, config)
    ours = Lokr(weight, Lokr.Config(rank=2, factor=4, alpha=alpha))
    names = {"left": "lokr_w1", "right_up": "lokr_w2_a", "right_down": "lokr_w2_b"}
    ours.load_state_dict({own: getattr(layer, name)["default"] for own, name in names.items()})
    assert close(ours.delta(weight), layer.get_delta_weight("default"))


# PEFT compiles a CUDA extension for several factors, and without it warns and has one.
@pytest.mark.filterwarnings("ignore:Failed to load the CUDA extension", "ignore:Setting boft_n_butterfly_factor")
def test_boft_of_one_factor(model: nn.Sequential):
    weight = frozen(model[0].weight)
    layer = peft_layer(model, BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=1, target_modules=["0"]))
    layer.boft_s["default"].data.fill_(1.0)
    halves = layer.boft_R["default"].detach()
    rows, columns = torch.triu_indices(4, 4, 1)
    ours = Boft(weight, Boft.Config(block_size=4, num_factors=1))
    ours.load_state_dict({"skew": ((halves - halves.mT) / 2)[..., rows, columns]})
    assert close(ours.delta(weight), merged(layer)[0])
