"""The family of a base that is not loaded, and of the same base loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from concepts.errors import StudioError
from studio.models.base_model import Base, load_base
from studio.models.families import FAMILIES, OTHER, SD15, SD21, SDXL, Family, licence_note
from studio.models.family_detection import family_of_source
from studio.models.sampling_settings import SamplingSettings


@pytest.mark.parametrize(("width", "family"), [(768, SD15), (1024, SD21), (32, OTHER), (None, OTHER), ([768], OTHER)])
def test_a_folder(width: object, family: Family, tiny_folder: Path, tmp_path: Path):
    shutil.copytree(tiny_folder, tmp_path / "model")
    file = tmp_path / "model/unet/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "cross_attention_dim": width}), encoding="utf-8-sig")
    assert family_of_source(str(tmp_path / "model")) is family


def test_the_bundled_base_and_xl(xl_folder: Path, base: Base):
    assert family_of_source("toybox") is OTHER
    assert family_of_source(str(xl_folder)) is SDXL
    assert load_base(str(xl_folder), device="cpu").family is SDXL
    assert base.family is OTHER


@pytest.mark.parametrize(
    ("key", "width", "family"),
    [
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", 768, SD15),
        ("cond_stage_model.transformer.final_layer_norm.weight", 768, SD15),
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", 192, OTHER),
        ("cond_stage_model.model.ln_final.weight", 1024, SD21),
        ("conditioner.embedders.1.model.ln_final.weight", 2048, SDXL),
    ],
)
def test_a_single_file(key: str, width: int, family: Family, tmp_path: Path):
    to_key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    tensors = {key: torch.zeros(1), to_key: torch.zeros(2, width), "first_stage_model.x": torch.zeros(1)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert family_of_source(str(tmp_path / "model.safetensors")) is family


def test_no_base_is_refused(tmp_path: Path):
    with pytest.raises(StudioError, match="No base could be loaded from"):
        family_of_source(str(tmp_path / "none"))
    with pytest.raises(StudioError, match=r"has no model_index\.json"):
        family_of_source(str(tmp_path))


def test_licences():
    assert licence_note(OTHER) is None
    assert "CreativeML Open RAIL-M. Whoever" in str(licence_note(SD15))
    assert all("CreativeML Open RAIL++-M. Whoever" in str(licence_note(family)) for family in (SD21, SDXL))


def test_what_is_set_explicitly_wins():
    given = SamplingSettings(guidance_scale=4.0, num_inference_steps=20)
    filled = given.with_defaults(SDXL)
    assert (filled.guidance_scale, filled.num_inference_steps, filled.guidance_rescale) == (4.0, 20, 0.0)
    assert filled.with_defaults(SD15) == filled
    assert [SamplingSettings().with_defaults(family).batch_size for family in FAMILIES] == [1, 1, 1, 4]
