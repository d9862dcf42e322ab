"""Converts one layer of another tool's file to the terms of studio.adapters.imported.Imported."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from concepts.errors import StudioError
from studio.layers.rotations import skew
from studio.layers.target_modules import Site

Terms = dict[str, Tensor]
"""The parameters of `Imported` at one site, by name."""
_DIMENSIONS = {"turn_out": 3, "turn_in": 3, "rescale": 1, "rescale_in": 1, "bias": 1}
"""The dimensions of the terms that are no matrices."""
_PRODUCTS = (("up", "down"), ("first_up", "first_down", "second_up", "second_down"), ("left", "right"))
_LARGEST = 1e15
"""Sums of squares of such values are still finite in float32."""


def lora(held: Mapping[str, Tensor], scale: float | None = None) -> Terms:
    """LoRA and LoCon: `up` (out, r[, 1, 1]), `down` (r, in[, kh, kw]), for a Tucker convolution `mid` (r, s, kh, kw)
    with `down` (s, in, 1, 1), and `alpha`; the product is scaled by alpha / r, or by `scale` where it is given.
    """
    up, down = held["up"].flatten(1), held["down"].flatten(1)
    if "mid" in held:
        down = torch.einsum("mn...,nj->mj...", held["mid"], down).flatten(1)
    return {"up": up * (alpha_scale(held, len(down)) if scale is None else scale), "down": down}


def loha(held: Mapping[str, Tensor], scale: float | None = None) -> Terms:
    """LoHa: (w1_a w1_b) ⊙ (w2_a w2_b), with Tucker's tensors `t1`, `t2` (r, r, kh, kw) between the factors if given."""
    rank = len(held["w1_b"])
    scale = alpha_scale(held, rank) if scale is None else scale
    pairs = {}
    for number, place in (("1", "first"), ("2", "second")):
        up, down = held[f"w{number}_a"], held[f"w{number}_b"]
        if f"t{number}" in held:
            up, down = up.T, torch.einsum("ij...,jr->ir...", held[f"t{number}"], down)
        pairs |= {f"{place}_up": up, f"{place}_down": down.flatten(1)}
    return {**pairs, "first_up": pairs["first_up"] * scale}


def lokr(held: Mapping[str, Tensor], scale: float | None = None) -> Terms:
    """LoKr: w1 ⊗ w2, each full or as a product `_a` `_b`, w2 optionally with Tucker's `t2`; alpha applies only if one
    of them is a product.
    """
    ranks = [len(held[key]) for key in ("w1_b", "w2_b") if key in held]
    if scale is None:
        scale = alpha_scale(held, ranks[-1]) if ranks else 1.0
    left = held["w1"] if "w1" in held else held["w1_a"] @ held["w1_b"]
    if "w2" in held:
        right = held["w2"]
    elif "t2" in held:
        right = torch.einsum("ij...,ip,jr->pr...", held["t2"], held["w2_a"], held["w2_b"])
    else:
        right = held["w2_a"] @ held["w2_b"].flatten(1)
    return {"left": left * scale, "right": right.flatten(1)}


def output_oft(held: Mapping[str, Tensor], key: str) -> Terms:
    """LyCORIS' diagonal OFT and kohya's OFT: `blocks` (n, s, s) whose skew-symmetric parts rotate the output, with
    their norm limited by `alpha`, or the `rotations` (n, s, s) themselves, and `rescale` (out, …). `key` names the
    layer in errors.
    """
    if "rotations" in held:
        rotation = held["rotations"].double()
        if not torch.allclose(rotation @ rotation.mT, _identity(rotation).expand_as(rotation), atol=0.01):
            raise StudioError(f"The file is invalid: the oft_diag of {key} is no rotation. Get another copy.")
    else:
        blocks = held["blocks"].double()
        rotation = rotations(limited(blocks - blocks.mT, held, blocks.shape[0] * blocks.shape[-1]))
    terms = {"turn_out": (rotation.mT - _identity(rotation)).float()}
    return terms | ({"rescale": held["rescale"].flatten()} if "rescale" in held else {})


def limited(turn: Tensor, held: Mapping[str, Tensor], features: int) -> Tensor:
    """Skew-symmetric blocks (…, s, s) with a norm of at most `alpha` times the features, where alpha is above 0."""
    limit = float(held.get("alpha", torch.zeros(()))) * features
    return turn * limit / norm if limit > 0 and (norm := turn.norm() + 1e-8) > limit else turn


def rotations(turn: Tensor) -> Tensor:
    """The Cayley transform (I + Q)(I − Q)⁻¹ of skew-symmetric blocks (…, s, s)."""
    return torch.linalg.solve(_identity(turn) - turn, _identity(turn) + turn, left=False)


def _identity(blocks: Tensor) -> Tensor:
    return torch.eye(blocks.shape[-1], dtype=blocks.dtype)


def input_oft(held: Mapping[str, Tensor], series: int | None) -> Terms:
    """PEFT's OFT: `numbers` (n, s (s - 1) / 2), the upper triangles of the skew-symmetric blocks Q that rotate the
    input, by the Cayley transform or, where `series` is set, by PEFT's Cayley-Neumann series of that many terms.
    """
    numbers = held["numbers"].double()
    size = (1 + round((1 + 8 * numbers.shape[1]) ** 0.5)) // 2
    turn = skew(numbers, size)
    identity = torch.eye(size, dtype=torch.float64)
    if series is None:
        rotation = torch.linalg.solve(identity + turn, identity - turn, left=False)
    elif series < 5:
        raise StudioError(
            "OFT with num_cayley_neumann_terms below 5 is not supported. Train it with 5 or more, or with "
            "use_cayley_neumann=False."
        )
    else:
        powers = [torch.linalg.matrix_power(turn, exponent) for exponent in range(1, series)]
        rotation = identity + 2 * torch.stack(powers[:-1]).sum(0) + powers[-1]
    return {"turn_in": (rotation.mT - identity).float()}


def alpha_scale(held: Mapping[str, Tensor], rank: int) -> float:
    """alpha / rank; 1 without an alpha."""
    return float(held["alpha"]) / rank if "alpha" in held else 1.0


def magnitude(values: Tensor, site: Site) -> Tensor:
    """DoRA's magnitudes, of the rows as (out, 1) or of the columns as (1, in)."""
    out_features, in_features = site.weight.shape
    if values.numel() == out_features and (values.ndim == 1 or values.shape[0] == out_features):
        return values.reshape(-1, 1)
    if values.numel() == in_features and values.shape[0] == 1 and values.ndim > 1 and _is_matrix(site):
        return values.reshape(1, -1)
    raise misfit(site, "the DoRA magnitudes have another size")


def _is_matrix(site: Site) -> bool:
    return isinstance(site.module, nn.Linear) or tuple(site.module.weight.shape[2:]) == (1, 1)


def checked(terms: Terms, site: Site) -> Terms:
    """The terms, contiguous and float32; StudioError if their shape is not the site's weight's, and for values that are
    not finite. Raises ValueError where factors or dimensions do not go together.
    """
    out_features, in_features = site.weight.shape
    found: Mapping[str, Callable[[], tuple[int, ...]]] = {
        "up": lambda: _product(terms["up"], terms["down"]),
        "first_up": lambda: _product(terms["first_up"], terms["first_down"]),
        "second_up": lambda: _product(terms["second_up"], terms["second_down"]),
        "left": lambda: tuple(a * b for a, b in zip(terms["left"].shape, terms["right"].shape, strict=True)),
        "turn_out": lambda: (_rotated_features(terms["turn_out"], out_features), in_features),
        "turn_in": lambda: (out_features, _rotated_features(terms["turn_in"], in_features)),
        "difference": lambda: tuple(terms["difference"].shape),
        "rescale": lambda: (len(terms["rescale"]), in_features),
        "rescale_in": lambda: (out_features, len(terms["rescale_in"])),
        "bias": lambda: (terms["bias"].numel(), in_features),
    }
    if any(tensor.ndim != _DIMENSIONS.get(name, 2) for name, tensor in terms.items()):
        raise ValueError("a term has other dimensions")
    for name, shape in found.items():
        if name in terms and shape() != (out_features, in_features):
            raise misfit(site, f"it changes a weight of {_by(shape())}")
    if not all(_largest(terms, *names) < _LARGEST for names in [*_PRODUCTS, *((name,) for name in terms)]):
        raise StudioError(
            f"The file is invalid: {site.name} has values that are not finite, or too large for a weight. Get another "
            "copy."
        )
    return {name: tensor.float().contiguous() for name, tensor in terms.items()}


def _largest(terms: Terms, *names: str) -> float:
    """A bound of the product of these terms; 0 where one is not there, and NaN where a value is."""
    found = [terms[name].abs().max().item() for name in names if name in terms]
    rank = len(terms[names[-1]]) if len(found) > 1 else 1
    return rank * math.prod(found) if len(found) == len(names) else 0


def _product(up: Tensor, down: Tensor) -> tuple[int, ...]:
    if up.shape[1] != down.shape[0]:
        raise ValueError("the factors have different ranks")
    return (up.shape[0], down.shape[1])


def _rotated_features(blocks: Tensor, features: int) -> int:
    """How many features the blocks rotate; a single block is repeated where it divides them."""
    count, size = blocks.shape[0], blocks.shape[-1]
    return features if count == 1 and features % size == 0 else count * size


def misfit(site: Site, what: str) -> StudioError:
    """The error of a layer that does not fit the site."""
    return StudioError(
        f"The file does not fit this base: at {site.name}, whose weight is {_by(site.weight.shape)}, {what}. "
        "Give the base that the file was made for with --base, or get another copy."
    )


def _by(shape: Any) -> str:
    return " x ".join(map(str, shape))
