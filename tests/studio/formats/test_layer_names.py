"""Key names at the true sizes, without weights: what diffusers, ComfyUI and A1111 accept."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from diffusers.utils import convert_unet_state_dict_to_peft

from studio.formats.adapter_file import read_layers
from studio.formats.diffusers import diffusers_tensors
from studio.formats.kohya import kohya_tensors
from studio.formats.layer_names import original_paths
from studio.formats.lora_approximation import LoraApproximation
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Site, find_sites
from studio.models.architectures import architecture_parts
from studio.models.families import SD15, SD21, SDXL, family_of

# ComfyUI's list for text encoders: these six matrices of every layer, by these prefixes.
TEXT_KEY = re.compile(
    r"lora_te[12]?_text_model_encoder_layers_\d+_(mlp_fc1|mlp_fc2|self_attn_(q|k|v|out)_proj)\.(lora_down|lora_up)\.weight"
)


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def parts(request) -> dict[str, torch.nn.Module]:
    return architecture_parts(request.param)


def plain(sites: dict[str, Site]) -> LoraApproximation:
    """A LoRA of rank 2 on all of these sites, without numbers."""
    factors = {
        name: LowRank(
            *(torch.empty(shape, device="meta") for shape in ((site.weight.shape[0], 2), (2, site.weight.shape[1])))
        )
        for name, site in sites.items()
    }
    return LoraApproximation(factors, {}, {}, 0.0)


def test_families(parts: dict[str, torch.nn.Module]):
    config: Any = parts["unet"].config
    assert family_of(parts) is {768: SD15, 1024: SD21, 2048: SDXL}[config.cross_attention_dim]


def test_original_names_are_those_that_diffusers_converts(parts: dict[str, torch.nn.Module]):
    unet = parts["unet"]
    state = unet.state_dict()
    names = original_paths({key.rpartition(".")[0] for key in state})
    original = {
        f"model.diffusion_model.{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": tensor
        for key, tensor in state.items()
    }
    converted = convert_ldm_unet_checkpoint(original, unet.config)
    assert {key: tensor.shape for key, tensor in converted.items()} == {k: t.shape for k, t in state.items()}


def test_comfyui_and_a1111_know_kohyas_keys(parts: dict[str, torch.nn.Module]):
    family, every = family_of(parts), find_sites(parts, ("linear", "convolution"))
    sites = find_sites(parts, ("attention", "feed_forward", "convolution"))
    own = {name: site for name, site in sites.items() if "embeddings" not in name}
    keys = kohya_tensors(plain(own), every, family)
    paths = [name.removesuffix(".weight") for name in parts["unet"].state_dict() if name.endswith(".weight")]
    layers = original_paths(paths).values() if family is SDXL else paths
    accepted = {f"lora_unet_{path.replace('.', '_')}" for path in layers}
    for key in keys:
        module, _, role = key.partition(".")
        assert role in ("lora_down.weight", "lora_up.weight", "alpha")
        assert module in accepted or TEXT_KEY.fullmatch(f"{module}.lora_up.weight"), key
    assert {key.split("_unet_")[0].split("_text_")[0] for key in keys} == (
        {"lora", "lora_te1", "lora_te2"} if family is SDXL else {"lora", "lora_te"}
    )
    assert max(tensor.ndim for tensor in keys.values()) == 4
    assert read_layers("rex", keys, {}, every, family).layers.keys() == own.keys()


def test_diffusers_loads_both(parts: dict[str, torch.nn.Module]):
    family, sites = family_of(parts), find_sites(parts, ("attention", "feed_forward", "convolution"))
    unet = {name: site for name, site in sites.items() if site.part == "unet"}
    expected = {f"{name}.lora_{letter}.weight" for name in unet for letter in "AB"}
    lora, every = plain(unet), find_sites(parts, ("linear", "convolution"))
    assert diffusers_tensors(lora, every).keys() == expected
    config = SimpleNamespace(layers_per_block=parts["unet"].config.layers_per_block)  # pyright: ignore[reportAttributeAccessIssue]
    loader = StableDiffusionXLPipeline if family is SDXL else StableDiffusionPipeline
    tensors = {
        k: t if k.endswith("weight") else torch.tensor(2.0) for k, t in kohya_tensors(lora, every, family).items()
    }
    converted, alphas = loader.lora_state_dict(tensors, unet_config=config)  # pyright: ignore[reportAssignmentType]
    below = {key.removeprefix("unet."): tensor for key, tensor in converted.items()}
    assert {f"unet.{key}" for key in convert_unet_state_dict_to_peft(below)} == expected
    assert alphas is not None
    assert set(alphas.values()) == {2.0}
