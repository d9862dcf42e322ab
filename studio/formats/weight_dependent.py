"""Converts layers of other tools' files whose change depends on the frozen weight: GLoRA, (IA)³ and BOFT."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from studio.formats.layer_conversion import Terms, alpha_scale, limited, misfit, rotations
from studio.layers.target_modules import Site


def glora(held: Mapping[str, Tensor], scale: float | None, site: Site) -> Terms:
    """LyCORIS' GLoRA: (W a1 a2 + b1 b2) alpha / r as one product of low-rank factors.

    `a1` (in, r) and `a2` (r, in) mix a convolution's input channels alone; `b1` (out, r) and `b2` (r, in[, kh, kw]), or
    `b2` (r, in, 1, 1) with `bm` (r, r, kh, kw). Before version 2 LyCORIS, and A1111, have the names in each pair the
    other way round, which the shape of `a1` tells.
    """
    a1, a2, b1, b2 = (held[role].flatten(1) for role in ("a1", "a2", "b1", "b2"))
    if len(a1) != site.module.weight.shape[1]:
        a1, a2, b1, b2 = a2, a1, b2, b1
    if "bm" in held:
        b2 = torch.einsum("mn...,nj->mj...", held["bm"], b2).flatten(1)
    scale = alpha_scale(held, len(a2)) if scale is None else scale
    weight = site.module.weight.detach().float()
    kernel = math.prod(weight.shape[2:])
    mixed = torch.einsum("oik,ij->ojk", weight.reshape(*weight.shape[:2], kernel), a1)
    rows = torch.kron(a2, torch.eye(kernel))
    return {"up": torch.cat([b1, mixed.flatten(1)], 1) * scale, "down": torch.cat([b2, rows])}


def ia3(held: Mapping[str, Tensor], site: Site) -> Terms:
    """LyCORIS' (IA)³: the rows of W, or with `on_input` its input channels, scaled by 1 + `weight`."""
    name = "rescale_in" if bool(held["on_input"].any()) else "rescale"
    return {name: 1 + _channels(held["weight"], name, site)}


def peft_ia3(held: Mapping[str, Tensor], feedforward: bool, site: Site) -> Terms:
    """PEFT's (IA)³: the output, with its bias, or a feed-forward layer's input, scaled by `scales`."""
    name = "rescale_in" if feedforward else "rescale"
    scales = _channels(held["scales"], name, site)
    biased = {} if feedforward or site.bias is None else {"bias": site.bias.detach().float() * (scales - 1)}
    return {name: scales, **biased}


def _channels(values: Tensor, name: str, site: Site) -> Tensor:
    """A number for each row, or for each column of the flattened weight from one for each input channel."""
    shape = site.module.weight.shape
    wanted = shape[0] if name == "rescale" else shape[1]
    if values.numel() != wanted:
        raise misfit(site, f"it scales {values.numel()} features")
    return values.flatten() if name == "rescale" else values.flatten().repeat_interleave(math.prod(shape[2:]))


def peft_glora(held: Mapping[str, Tensor], site: Site) -> Terms:
    """PEFT's GLoRA: W ⊙ A + B, and b ⊙ D + E + W C on the bias; each of the five a product of `Xd` and `Xu`, or `X`.

    Source: PEFT's GloraConfig.
    """
    weight, bias = site.weight.detach().float(), site.bias
    if not isinstance(site.module, nn.Linear):
        raise misfit(site, "it adapts a linear layer")
    a, b, c, d, e = (_path(held, path, weight) for path in "ABCDE")
    terms: Terms = {"difference": weight * a + b}
    if bias is not None:
        frozen = bias.detach().float()
        terms["bias"] = (frozen * d + e + (weight @ c.expand(weight.shape[1], 1)).flatten()).expand_as(frozen)
    return terms


def _path(held: Mapping[str, Tensor], path: str, weight: Tensor) -> Tensor:
    if f"{path}.Xd" in held:
        return held[f"{path}.Xd"] @ held[f"{path}.Xu"]
    found = held.get(f"{path}.X", held.get(f"{path}.zeros"))
    return weight.new_zeros(1) if found is None else found


def boft(held: Mapping[str, Tensor], site: Site) -> Terms:
    """LyCORIS' BOFT: `blocks` (m, n, s, s), of which stage i rotates rows that are 2^i s / 2 apart; `alpha` limits
    their norm, and `rescale` (out, …) scales the rows afterwards.

    Source: Liu et al., 2024, "BOFT", section 4, as LyCORIS implements it.
    """
    blocks = held["blocks"].double()
    stages, count, size = blocks.shape[:3]
    rows = weight = site.weight.detach().double()
    if count * size != len(weight) or size % 2:
        raise misfit(site, f"it rotates {count * size} rows")
    for stage, rotation in enumerate(rotations(limited(blocks - blocks.mT, held, len(weight)))):
        apart = 2**stage * size // 2
        if len(weight) % (2 * apart):
            raise misfit(site, f"it has {stages} stages")
        mixed = rows.unflatten(0, (-1, 2, apart)).transpose(1, 2).flatten(0, 2).unflatten(0, (-1, size))
        mixed = (rotation @ mixed).flatten(0, 1)
        rows = mixed.unflatten(0, (-1, apart, 2)).transpose(1, 2).flatten(0, 2)
    if "rescale" in held:
        rows = rows * held["rescale"].double().reshape(-1, 1)
    return {"difference": (rows - weight).float()}
