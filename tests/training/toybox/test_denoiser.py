import pytest
import torch

from training.toybox import autoencoder, denoiser
from training.toybox.denoiser import Denoiser, build_text_encoder, build_unet

pytestmark = pytest.mark.usefixtures("small_models")


@pytest.fixture
def vae(small_models):
    torch.manual_seed(1)
    return autoencoder.build().eval()


def test_the_unet_reads_the_text_encoder(bundled_tokenizer):
    text_encoder, unet = build_text_encoder(bundled_tokenizer), build_unet()
    ids = bundled_tokenizer(["a cat"], padding="max_length", return_tensors="pt").input_ids
    context = text_encoder(ids).last_hidden_state
    latents = torch.randn(1, autoencoder.LATENT_CHANNELS, 16, 16)
    assert unet(latents, torch.tensor([5]), context).sample.shape == latents.shape


def test_training_resumes_exactly(resumes_exactly, vae, bundled_tokenizer):
    resumes_exactly(lambda folder, steps: denoiser.train(folder, vae, bundled_tokenizer, "cpu", steps)[0])


def test_latents_are_scaled_to_unit_variance(vae, bundled_tokenizer, tmp_path):
    model, scale = denoiser.train(tmp_path, vae, bundled_tokenizer, "cpu", 1)
    latents = denoiser.Lessons(tmp_path, vae, "cpu").latents
    assert (latents.float() * scale).std().item() == pytest.approx(1)
    assert len(latents) == len(denoiser.SPREADS) * len(denoiser.encoded(tmp_path, vae, 1, "cpu")[0])
    assert not model.training


def test_a_training_can_start_from_an_earlier_model(vae, bundled_tokenizer, tmp_path):
    torch.manual_seed(7)
    earlier = Denoiser(build_text_encoder(bundled_tokenizer), build_unet())
    before = {name: tensor.clone() for name, tensor in earlier.state_dict().items()}
    model, _ = denoiser.train(tmp_path, vae, bundled_tokenizer, "cpu", 1, start=earlier)
    changes = [(tensor - before[name]).abs().max().item() for name, tensor in model.state_dict().items()]
    assert 0 < max(changes) < 0.01
