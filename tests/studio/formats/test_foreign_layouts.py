"""A LoRA gives the same change of the weights in every layout of keys, with every form of alpha."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from studio.formats.importing import read_adapter
from studio.models.base_model import Base
from tests.studio.formats.foreign_files import (
    A_B,
    FC1,
    FF,
    FLAT,
    LAYOUTS,
    QUERY,
    SHAPES,
    TEXT,
    Tensors,
    assert_same,
    deltas_of,
    factors,
    kohya,
    peft_folder,
    random,
    site_of,
    spelled,
    weight_of,
    write,
)

HALF = 0.5
"""alpha / rank of the files."""


def product(path: str, scale: float = HALF) -> Tensor:
    """A LoRA's delta by its definition."""
    up, down = factors(path)
    return scale * up.flatten(1) @ down.flatten(1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_lora_in_every_layout(base: Base, layout: str, tmp_path: Path):
    tensors = LAYOUTS[layout]()
    adapted = len(tensors) // 3
    ours = deltas_of(base, write(tmp_path, tensors))
    assert len(ours) == adapted >= 2
    assert_same(ours, {site_of(path): product(path) for path in SHAPES if site_of(path) in ours})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_every_type_of_numbers(base: Base, dtype: torch.dtype, tmp_path: Path):
    up, down = (10 * factor for factor in factors(QUERY))
    stored = {"lora_up.weight": up.to(dtype), "lora_down.weight": down.to(dtype), "alpha": torch.tensor(2.0).to(dtype)}
    ours = deltas_of(base, write(tmp_path, {f"{FLAT}.{role}": tensor for role, tensor in stored.items()}))
    assert_same(ours, {site_of(QUERY): HALF * up.to(dtype).float() @ down.to(dtype).float()})


ALPHAS: dict[str, tuple[Tensors, dict[str, str], dict[str, float]]] = {
    "none": (kohya(QUERY, TEXT, alpha=None), {}, {QUERY: 1, TEXT: 1}),
    "in some layers": ({**kohya(QUERY), **kohya(TEXT, alpha=None)}, {}, {QUERY: HALF, TEXT: 1}),
    "of one element": ({**kohya(QUERY), f"{FLAT}.alpha": torch.tensor([2])}, {}, {QUERY: HALF}),
    "negative": ({**kohya(QUERY), f"{FLAT}.alpha": torch.tensor(-4.0)}, {}, {QUERY: -1}),
    "as JSON": (
        spelled({QUERY: f"unet.{QUERY}"}, A_B, None),
        {"lora_adapter_metadata": '{"unet.r": 4, "unet.lora_alpha": 2}'},
        {QUERY: HALF},
    ),
    "by patterns": (
        spelled({QUERY: f"unet.{QUERY}", TEXT: f"text_encoder.text_model.{TEXT}"}, A_B, None),
        {
            "lora_adapter_metadata": '{"unet.r": 4, "unet.lora_alpha": 4, "unet.alpha_pattern": {"attn1.to_q": 2}, '
            '"text_encoder.r": 9, "text_encoder.rank_pattern": {"text_model.encoder.layers.0.self_attn.q_proj": 4}, '
            '"text_encoder.lora_alpha": 8, "text_encoder.use_rslora": true}'
        },
        {QUERY: HALF, TEXT: 4},
    ),
    "as JSON, without a part": (
        spelled({QUERY: f"unet.{QUERY}"}, A_B, None),
        {"lora_adapter_metadata": '{"r": 4, "lora_alpha": 2}'},
        {QUERY: HALF},
    ),
    "flat": (
        spelled({QUERY: f"unet.{QUERY}", TEXT: f"text_encoder.{TEXT}"}, A_B, None),
        {"unet.r": "4", "unet.lora_alpha": "2", "text_encoder.r": "4", "text_encoder.lora_alpha": "8"},
        {QUERY: HALF, TEXT: 2},
    ),
    "flat, without a part": (spelled({QUERY: QUERY}, A_B, None), {"rank": "4", "alpha": "2.0"}, {QUERY: HALF}),
    "flat, without a rank": (kohya(QUERY, alpha=None), {"lora_alpha": "2"}, {QUERY: HALF}),
    "in the tensors and in the metadata": (kohya(QUERY), {"rank": "4", "alpha": "16"}, {QUERY: HALF}),
}


@pytest.mark.parametrize("case", ALPHAS)
def test_every_form_of_alpha(base: Base, case: str, tmp_path: Path):
    tensors, metadata, scales = ALPHAS[case]
    ours = deltas_of(base, write(tmp_path, tensors, metadata))
    assert_same(ours, {site_of(path): product(path, scale) for path, scale in scales.items()})


def test_an_alpha_of_zero_is_told(base: Base, tmp_path: Path):
    read = read_adapter(base, write(tmp_path, {**kohya(QUERY), f"{FLAT}.alpha": torch.tensor(0.0)}), {})
    assert read.notes == ("Layers whose alpha is 0 change nothing, as in ComfyUI and A1111. The file has 1.",)
    assert not deltas_of(base, tmp_path / "rex.safetensors")[site_of(QUERY)].any()


def test_the_first_of_two_text_encoders_is_the_only_one(base: Base, tmp_path: Path):
    read = read_adapter(base, write(tmp_path, spelled({TEXT: f"lora_te1_text_model_{TEXT.replace('.', '_')}"})), {})
    assert "names its text encoder lora_te1" in read.notes[0]
    assert_same(deltas_of(base, tmp_path / "rex.safetensors"), {site_of(TEXT): product(TEXT)})


MAGNITUDES = {
    "kohya, half-dotted": f"lora_unet_{QUERY.rpartition('.')[0].replace('.', '_')}.to_q.lora_magnitude_vector",
    "kohya": f"{FLAT}.lora_magnitude_vector",
    "LyCORIS": f"{FLAT}.dora_scale",
    "diffusers": f"unet.{QUERY}.lora_magnitude_vector.weight",
}


@pytest.mark.parametrize("case", MAGNITUDES)
def test_doras_magnitudes_by_every_name(base: Base, case: str, tmp_path: Path):
    magnitude = 1 + random(32, 1).abs()
    ours = deltas_of(base, write(tmp_path, {**kohya(QUERY), MAGNITUDES[case]: magnitude}))
    weight = weight_of(base, QUERY)
    adapted = weight + product(QUERY)
    assert_same(ours, {site_of(QUERY): magnitude * adapted / adapted.norm(dim=1, keepdim=True) - weight})


def test_a_peft_folder_with_the_adapters_name(base: Base, tmp_path: Path):
    tensors = spelled({QUERY: QUERY, FF: FF}, ("lora_B.default.weight", "lora_A.default.weight"), None)
    ours = deltas_of(base, peft_folder(tmp_path, tensors))
    assert_same(ours, {site_of(path): product(path) for path in (QUERY, FF)})


def test_the_names_of_two_layers_differ_in_nothing_but_dots(base: Base, tmp_path: Path):
    up, down = factors(FC1)
    path = write(
        tmp_path,
        {
            f"text_encoder.text_model.{FC1}.lora_B.weight": up,
            f"lora_te_text_model_{FC1.replace('.', '_')}.lora_down.weight": down,
        },
    )
    assert_same(deltas_of(base, path), {site_of(FC1): product(FC1, 1)})
