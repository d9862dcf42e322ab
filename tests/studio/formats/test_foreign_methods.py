"""Methods of other tools change the weights as their definitions say, written out here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from studio.formats.importing import import_concept
from studio.models.base_model import Base
from tests.studio.formats.foreign_files import (
    CONV,
    FLAT,
    OUT,
    QUERY,
    Tensors,
    assert_same,
    deltas_of,
    peft_folder,
    random,
    site_of,
    weight_of,
    write,
)

HALF = 0.5
"""alpha / rank of GLoRA's file."""


def cayley(blocks: Tensor) -> Tensor:
    """The block diagonal of the rotations (I + Q)(I − Q)⁻¹."""
    identity = torch.eye(blocks.shape[-1])
    turns = [block - block.T for block in blocks]
    return torch.block_diag(*((identity + turn) @ torch.linalg.inv(identity - turn) for turn in turns))


def oft(prefix: str, role: str) -> Callable[[Tensor], tuple[Tensors, Tensor]]:
    def make(weight: Tensor) -> tuple[Tensors, Tensor]:
        blocks = random(4, 8, 8)
        rotation = cayley(blocks)
        stored = (
            blocks if role == "oft_blocks" else torch.stack([rotation[i : i + 8, i : i + 8] for i in (0, 8, 16, 24)])
        )
        module = FLAT.replace("lora_unet", prefix)
        return {f"{module}.{role}": stored, f"{module}.alpha": torch.tensor(1e3)}, rotation.T @ weight - weight

    return make


def constrained(weight: Tensor) -> tuple[Tensors, Tensor]:
    blocks, module = random(4, 8, 8), FLAT.replace("lora_unet", "oft_unet")
    norm = (blocks - blocks.mT).norm()
    limited = blocks * (0.01 * 32 / norm)
    expected = cayley(limited).T @ weight - weight
    return {f"{module}.oft_blocks": blocks, f"{module}.alpha": torch.tensor(0.01)}, expected


def old_glora(weight: Tensor) -> tuple[Tensors, Tensor]:
    a1, a2, b1, b2 = (random(*shape, seed=seed) for seed, shape in enumerate([(4, 32), (32, 4)] * 2))
    stored = {
        f"{FLAT}.{role}.weight": tensor for role, tensor in zip(("a1", "a2", "b1", "b2"), (a1, a2, b1, b2), strict=True)
    }
    return {**stored, f"{FLAT}.alpha": torch.tensor(2.0)}, HALF * (weight @ a2 @ a1 + b2 @ b1)


def ia3(on_input: bool) -> Callable[[Tensor], tuple[Tensors, Tensor]]:
    def make(weight: Tensor) -> tuple[Tensors, Tensor]:
        scale = random(32, 1)
        stored = {f"{FLAT}.weight": scale, f"{FLAT}.on_input": torch.tensor(on_input)}
        return stored, weight * (scale.T if on_input else scale)

    return make


def oft_v2(weight: Tensor) -> tuple[Tensors, Tensor]:
    numbers = random(4, 28)
    rows, columns = torch.triu_indices(8, 8, 1)
    upper = torch.zeros(4, 8, 8)
    upper[:, rows, columns] = numbers
    turn = upper - upper.mT
    series = torch.eye(8) + 2 * (turn + turn @ turn + turn @ turn @ turn) + turn @ turn @ turn @ turn
    return {f"{FLAT}.oft_R.weight": numbers}, weight @ torch.block_diag(*series).T - weight


METHODS: dict[str, Callable[[Tensor], tuple[Tensors, Tensor]]] = {
    "kohya's OFT": oft("oft_unet", "oft_blocks"),
    "kohya's OFT with its constraint": constrained,
    "LyCORIS' OFT": oft("lora_unet", "oft_blocks"),
    "rotations": oft("lora_unet", "oft_diag"),
    "OneTrainer's OFT": oft_v2,
    "GLoRA of LyCORIS 1": old_glora,
    "IA3": ia3(False),
    "IA3 on the input": ia3(True),
    "difference": lambda weight: ({f"{FLAT}.diff": random(32, 32)}, random(32, 32)),
    "LoKr": lambda weight: (
        {f"{FLAT}.lokr_w1": random(4, 4), f"{FLAT}.lokr_w2": random(8, 8, seed=1), f"{FLAT}.alpha": torch.tensor(1e10)},
        torch.kron(random(4, 4), random(8, 8, seed=1)),
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_by_their_definition(base: Base, method: str, tmp_path: Path):
    tensors, expected = METHODS[method](weight_of(base, QUERY))
    assert_same(deltas_of(base, write(tmp_path, tensors)), {site_of(QUERY): expected})


def test_a_convolutions_input_channels(base: Base, tmp_path: Path):
    scale, weight = random(1, 32, 1, 1), weight_of(base, CONV)
    module = f"lora_unet_{CONV.replace('.', '_')}"
    path = write(tmp_path, {f"{module}.weight": scale, f"{module}.on_input": torch.tensor(1)})
    assert_same(deltas_of(base, path), {site_of(CONV): (weight * scale).flatten(1)})


def test_the_biases_of_peft(base: Base, tmp_path: Path):
    layer: Any = base.sites_of(("linear",))[site_of(OUT)].module
    assert isinstance(layer, nn.Linear)
    scales = 1 + random(32, 1)
    read = import_concept(base, peft_folder(tmp_path, {f"{OUT}.ia3_l": scales}, peft_type="IA3"), {})
    bias = layer.bias.detach()
    torch.testing.assert_close(read.adapters[site_of(OUT)]["bias"], bias * (scales.flatten() - 1))
    assert_same(deltas_of(base, tmp_path), {site_of(OUT): layer.weight.detach() * (scales - 1)})


def test_gloras_biases_of_peft(base: Base, tmp_path: Path):
    layer: Any = base.sites_of(("linear",))[site_of(OUT)].module
    c, d, e = random(32, 1), random(32, seed=1), random(32, seed=2)
    tensors = {
        f"{OUT}.glora_{path}.X": tensor
        for path, tensor in {"A": d[:, None], "B": e[:, None], "C": c, "D": d, "E": e}.items()
    }
    read = import_concept(base, peft_folder(tmp_path, tensors, peft_type="GLORA"), {})
    weight, bias = layer.weight.detach(), layer.bias.detach()
    torch.testing.assert_close(read.adapters[site_of(OUT)]["bias"], bias * d + e + (weight @ c).flatten())
    assert_same(deltas_of(base, tmp_path), {site_of(OUT): weight * d[:, None] + e[:, None].expand(32, 32)})
