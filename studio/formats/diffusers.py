"""diffusers' layout, for `load_lora_weights`: PEFT's tensors of all parts in one file."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from studio.formats.layer_names import field_path
from studio.formats.lora_approximation import LoraApproximation
from studio.layers.target_modules import Site


def diffusers_tensors(plain: LoraApproximation, sites: Mapping[str, Site]) -> dict[str, Tensor]:
    """A plain LoRA's tensors by key: lora_A is the down factor and lora_B the up factor, unscaled.

    Where a part has changes of biases, every one of its layers gets a lora_B.bias, as PEFT's configuration requires.
    """
    with_biases = {sites[name].part for name in plain.biases}
    tensors: dict[str, Tensor] = {}
    for name, low_rank in plain.factors.items():
        site = sites[name]
        key = f"{site.part}.{field_path(site)}"
        tensors[f"{key}.lora_A.weight"], tensors[f"{key}.lora_B.weight"] = peft_factors(site, low_rank)
        if site.part in with_biases:
            zero = torch.zeros(len(low_rank.up))
            tensors[f"{key}.lora_B.bias"] = plain.biases.get(name, zero)
    return tensors


def peft_factors(site: Site, low_rank: Any) -> tuple[Tensor, Tensor]:
    """lora_A and lora_B of a layer; a convolution's have its kernel, and 1x1."""
    if isinstance(site.module, nn.Conv2d):
        kernel = site.module.weight.shape[1:]
        return low_rank.down.unflatten(1, kernel), low_rank.up[:, :, None, None]
    return low_rank.down, low_rank.up
