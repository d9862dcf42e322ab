"""SDXL, narrow, learns through the same loop."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from studio.composition.merge import applied
from studio.models.base_model import generate, load_base
from studio.models.sampling_settings import SamplingSettings
from training.config.recipe import Recipe
from training.engine.trainer import train_concept


@pytest.mark.parametrize("layerwise", [False, True])
def test_sdxl_learns_a_concept_and_generates_it(xl_folder: Path, state_of, layerwise: bool):
    base = load_base(str(xl_folder), device="cpu")
    before = state_of(base)
    recipe = Recipe(adapter="lora", rank=2, steps=3, batch_size=4, num_class_images=4, layerwise_token=layerwise)
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("navy", "orange")]
    trained = train_concept(base, "rex", "dog", pictures, recipe).concept
    assert state_of(base) == before
    tokens = trained.tokens["<rex>"]
    assert {part: tensor.shape[-1] for part, tensor in tokens.items()} == {"text_encoder": 32, "text_encoder_2": 48}
    learned = {name.partition(".")[0] for name, state in trained.adapters.items() if state["up"].any()}
    assert learned == {"unet", "text_encoder", "text_encoder_2"}
    for part, (tokenizer, encoder) in base.text_encoders.items():
        words = tokenizer("dog", add_special_tokens=False, return_tensors="pt").input_ids[0]
        start = encoder.get_input_embeddings()(words).mean(0)
        assert all(not torch.equal(vector, start) for vector in tokens[part].flatten(0, -2))
    with applied(base, {"rex": trained}):
        assert len(generate(base, "a <rex>", [1], SamplingSettings(num_inference_steps=1))) == 1
