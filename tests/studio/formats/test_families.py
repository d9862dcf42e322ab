"""SDXL, narrow: generating, tokens in both text encoders, and files both ways."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from concepts.errors import StudioError
from studio.composition.merge import applied, merged_deltas
from studio.formats.exporting import export
from studio.formats.importing import import_concept
from studio.models.base_model import Base, generate, load_base
from studio.models.families import SDXL, family_of
from studio.models.regions.region import Region
from studio.models.sampling_settings import SamplingSettings
from studio.serving.serving import Request, Serving

PIXEL = 1e-3


@pytest.fixture
def xl(xl_folder: Path, monkeypatch) -> Base:
    """The narrow SDXL in float32."""
    monkeypatch.setattr(Base, "autocast", lambda self: nullcontext())
    return load_base(str(xl_folder), device="cpu")


@pytest.fixture
def xl_pipeline(xl_folder: Path) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(xl_folder)


def test_it_has_the_sites_of_both_text_encoders(xl: Base):
    assert family_of(xl.parts) is SDXL
    assert {site.part for site in xl.sites.values()} == {"unet", "text_encoder", "text_encoder_2"}


@torch.no_grad()
def test_prompts_are_encoded_as_diffusers_does(xl: Base, xl_pipeline: StableDiffusionXLPipeline):
    ours = xl.encode(["a photo of a cat"])
    context, _, pooled, _ = xl_pipeline.encode_prompt("a photo of a cat", do_classifier_free_guidance=False)
    assert torch.allclose(ours.context, context, atol=1e-6)
    assert torch.allclose(ours.pooled, pooled, atol=1e-6)  # pyright: ignore[reportArgumentType]


def test_predicting_is_the_pipelines_step(xl: Base):
    prompts, noisy, time = xl.encode(["a cat", "a dog"]), torch.randn(2, 4, 8, 8), torch.tensor([5, 500])
    ids = torch.tensor([[16.0, 16, 0, 0, 16, 16]]).repeat(2, 1)
    added = {"text_embeds": prompts.pooled, "time_ids": ids}
    expected = xl.pipeline.unet(noisy, time, encoder_hidden_states=prompts.context, added_cond_kwargs=added).sample
    assert torch.equal(xl.predict(noisy, time, prompts), expected)


def test_an_empty_negative_prompt_is_nothing(xl: Base):
    assert not xl.encode_negative_prompts([""]).context.any()
    assert xl.encode_negative_prompts(["rain"]).context.any()


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
def test_files_generate_the_same_in_diffusers(
    xl: Base, xl_pipeline: StableDiffusionXLPipeline, layout: str, tmp_path: Path, random_concept: Callable,
    our_picture: Callable, their_picture: Callable,
):  # fmt: skip
    concepts = {"rex": random_concept(xl, "spectral_additive")}
    made = export(xl, concepts, layout, tmp_path / "rex.safetensors")
    tokens = load_file(made.tokens["<rex>"])
    assert tokens.keys() == {"clip_l", "clip_g"}
    for key, tokenizer, encoder in (
        ("clip_l", xl_pipeline.tokenizer, xl_pipeline.text_encoder),
        ("clip_g", xl_pipeline.tokenizer_2, xl_pipeline.text_encoder_2),
    ):
        given: Any = tokens[key]
        xl_pipeline.load_textual_inversion(given, token="<rex>", text_encoder=encoder, tokenizer=tokenizer)
    xl_pipeline.load_lora_weights(str(tmp_path), weight_name=made.path.name)
    theirs = their_picture(xl_pipeline, negative_prompt="")
    assert np.abs(our_picture(xl, concepts) - theirs).max() < PIXEL
    if layout == "kohya":
        keys = load_file(made.path).keys()
        assert any("lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q" in key for key in keys)
        assert {key.partition("_text_")[0] for key in keys if "_text_" in key} == {"lora_te1", "lora_te2"}


def test_it_comes_back(xl: Base, tmp_path: Path, random_concept: Callable):
    concept = random_concept(xl, "lora")
    for layout in ("kohya", "diffusers", "peft"):
        name = tmp_path / (layout if layout == "peft" else f"{layout}.safetensors")
        export(xl, {"rex": concept}, layout, name)
        read, own = (merged_deltas(xl, {"rex": one}) for one in (import_concept(xl, name, {}), concept))
        assert all(float((read[site] - own[site]).norm() / own[site].norm()) < 1e-6 for site in own)


def test_regions_and_serving(xl: Base, random_concept: Callable):
    concept, settings = random_concept(xl, "lora"), SamplingSettings(num_inference_steps=1)
    region = Region("<rex>", 0, 0, 1, 0.5)
    with applied(xl, {"rex": concept}):
        merged = generate(xl, "a <rex>", [1], settings)[0]
        boxed = generate(xl, "a cat", [1], settings, [region])[0]
    assert boxed.tobytes() != merged.tobytes()
    with Serving(xl, {"rex": concept}) as serving:
        served = serving.generate([Request("a <rex>", 1, {"rex": 1.0})], settings)[0]
    assert np.abs(np.asarray(served, float) - np.asarray(merged, float)).max() <= 1


def test_a_token_goes_into_both_or_none(xl: Base, random_concept: Callable, state_of: Callable):
    concept, before = random_concept(xl, "lora"), state_of(xl)
    del concept.tokens["<rex>"]["text_encoder_2"]
    with pytest.raises(StudioError, match="no vectors for this base's text_encoder_2"), applied(xl, {"rex": concept}):
        pass
    assert state_of(xl) == before


def saved_by_comfyui(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """diffusers' keys of text encoders and of one layer of the UNet, as ComfyUI saves them."""
    renamed = {}
    for key, tensor in tensors.items():
        name = key.replace("text_encoder_2.", "text_encoders.clip_g.transformer.")
        name = name.replace("text_encoder.", "text_encoders.clip_l.transformer.")
        name = name.replace("unet.mid_block.attentions.0.", "diffusion_model.middle_block.1.")
        if not name.startswith("unet."):
            renamed[name.replace("lora_A", "lora_down").replace("lora_B", "lora_up")] = tensor
    return renamed


def test_both_text_encoders_saved_by_comfyui(xl: Base, tmp_path: Path, random_concept: Callable):
    concept = random_concept(xl, "lora")
    written = saved_by_comfyui(load_file(export(xl, {"rex": concept}, "diffusers", tmp_path / "rex.safetensors").path))
    save_file(written, tmp_path / "comfyui.safetensors")
    own = merged_deltas(xl, {"rex": concept})
    read = merged_deltas(xl, {"rex": import_concept(xl, tmp_path / "comfyui.safetensors", {})})
    assert len(read) == len(written) // 2
    assert {site.partition(".")[0] for site in read} == {"unet", "text_encoder", "text_encoder_2"}
    assert all(float((read[site] - own[site]).norm() / own[site].norm()) < 1e-6 for site in read)


@pytest.mark.parametrize(
    ("key", "width", "said"),
    [
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", 32, "is for a model with one text"),
        (
            "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight",
            768,
            "is for Stable Diffusion 1.x",
        ),
        ("lycoris_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", 32, "This base, .*, has no layer"),
    ],
)
def test_files_of_models_with_one_text_encoder(xl: Base, key: str, width: int, said: str, tmp_path: Path):
    save_file({key: torch.zeros(4, width)}, tmp_path / "rex.safetensors")
    with pytest.raises(StudioError, match=said):
        import_concept(xl, tmp_path / "rex.safetensors", {})
