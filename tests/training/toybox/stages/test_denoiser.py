import numpy as np
import pytest
import torch

from training.toybox.stages import autoencoder, denoiser, denoiser_batches, text_encoder
from training.toybox.stages.denoiser import Denoiser, DenoiserRecipe, build_unet
from training.toybox.stages.denoiser_batches import Batch, BatchSampler

pytestmark = pytest.mark.usefixtures("small_models")


@pytest.fixture
def vae(small_models):
    torch.manual_seed(1)
    model = autoencoder.build().eval()
    model.register_to_config(scaling_factor=0.5)
    return model


@pytest.fixture
def start(bundled_tokenizer, small_models):
    def make(attention: str = "up") -> Denoiser:
        torch.manual_seed(2)
        return Denoiser(text_encoder.build(bundled_tokenizer), build_unet(attention, 32))

    return make


@pytest.mark.parametrize(("attention", "at_16"), [("neither", 0), ("up", 2), ("both", 3)])
def test_attention_at_16x16_is_where_it_is_configured(start, bundled_tokenizer, attention: str, at_16: int):
    model = start(attention)
    ids = text_encoder.tokens(bundled_tokenizer, ["a cat"])
    latents = torch.randn(1, autoencoder.LATENT_CHANNELS, 16, 16)
    wide = []
    for name, module in model.unet.named_modules():
        if name.endswith("attn2"):
            module.register_forward_hook(lambda _m, inputs, _out: wide.append(inputs[0].shape[1] == 256))
    context = model.text_encoder(ids).last_hidden_state
    assert model.unet(latents, torch.tensor([5]), context).sample.shape == latents.shape
    assert sum(wide) == at_16


def test_training_resumes_exactly(resumes_exactly, vae, start, bundled_tokenizer):
    def train(folder, steps: int) -> Denoiser:
        return denoiser.train(folder, vae, start(), bundled_tokenizer, "cpu", DenoiserRecipe(steps))

    resumes_exactly(train)


def test_there_are_more_scenes_as_the_training_goes_on(vae, tmp_path, monkeypatch):
    monkeypatch.setattr(denoiser_batches, "MAX_SHARDS", 3)
    batches, seen = BatchSampler(tmp_path, vae, "cpu"), []
    for step in (0, 2, 3, 5, 6, 60):
        batches.draw(step, np.random.default_rng(step))
        seen.append(len(batches.shards))
    assert seen == [1, 1, 2, 2, 3, 3]
    again = BatchSampler(tmp_path, vae, "cpu").draw(5, np.random.default_rng(5))
    assert torch.equal(again.latents, batches.draw(5, np.random.default_rng(5)).latents)


def test_a_batch_is_scaled_and_captions_its_scenes(vae, tmp_path):
    batch = BatchSampler(tmp_path, vae, "cpu").unseen()
    stored = denoiser_batches.encoded(tmp_path, vae, 1, "cpu", denoiser_batches.TEST_SEED)
    torch.testing.assert_close(batch.latents, stored.latents.float() * 0.5)
    assert batch.covered.shape == (len(stored.scenes), 1, 16, 16)
    assert 0 < batch.covered.max() <= 1
    assert all(batch.texts)


def test_cells_of_items_count_more(start, bundled_tokenizer):
    model = start()
    latents = torch.zeros(1, autoencoder.LATENT_CHANNELS, 16, 16)
    latents[..., 8:] = 3.0
    covered = (latents[:, :1] > 0).float()
    ids = text_encoder.tokens(bundled_tokenizer, ["a cat"])

    def loss(weight: float) -> float:
        torch.manual_seed(0)
        batch = Batch(["a cat"], latents, covered, {})
        return denoiser.loss(model, lambda x, *_, **__: (torch.zeros_like(x),), ids, batch, weight, 0.0).item()

    assert loss(4.0) != pytest.approx(loss(0.0), rel=0.02)


def test_the_scene_head_trains_the_unet(start, bundled_tokenizer, vae, tmp_path):
    model, batch = start(), BatchSampler(tmp_path, vae, "cpu").unseen()
    ids = text_encoder.tokens(bundled_tokenizer, batch.texts)

    def gradient(weight: float) -> torch.Tensor:
        torch.manual_seed(0)
        model.zero_grad()
        denoiser.loss(model, model.unet, ids, batch, 4.0, weight).backward()
        gradient = model.unet.mid_block.resnets[0].conv1.weight.grad
        assert gradient is not None
        return gradient.clone()

    assert not torch.allclose(gradient(0.0), gradient(1.0), atol=1e-4)
    assert model.scene_head.logits.weight.grad is not None
    assert not model.unet.up_blocks[1]._forward_hooks


def test_validation_is_deterministic_and_weights_items(start, bundled_tokenizer, vae, tmp_path):
    model, batch = start().eval(), BatchSampler(tmp_path, vae, "cpu").unseen()
    first = denoiser.validation(model, bundled_tokenizer, batch)
    assert first == denoiser.validation(model, bundled_tokenizer, batch)
    assert set(first) == {"validation_loss", "validation_items"}
    assert first["validation_loss"] != first["validation_items"]
