from typing import Any

import pytest
import torch

from training.toybox import autoencoder
from training.toybox.renders import draw_all, scenes, to_signal

pytestmark = pytest.mark.usefixtures("small_models")


def test_pictures_of_128_become_latents_of_16():
    model: Any = autoencoder.build().eval()
    with torch.no_grad():
        latents = model.encode(torch.zeros(1, 3, 128, 128)).latent_dist.mode()
        assert latents.shape == (1, autoencoder.LATENT_CHANNELS, 16, 16)
        assert model.decode(latents).sample.shape == (1, 3, 128, 128)


def test_training_resumes_exactly(resumes_exactly):
    resumes_exactly(lambda folder, steps: autoencoder.train(folder, "cpu", steps))


def test_the_loss_falls(tmp_path):
    torch.manual_seed(0)
    model = autoencoder.build()
    signal = to_signal(torch.from_numpy(draw_all(scenes(0, count=2))).permute(0, 3, 1, 2))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = autoencoder.loss(model, signal)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_the_decoder_is_refined_and_the_encoder_is_left_alone(tmp_path, interrupted):
    torch.manual_seed(0)
    start = autoencoder.build().state_dict()

    def refined(folder, steps: int) -> dict[str, torch.Tensor]:
        model = autoencoder.build()
        model.load_state_dict(start)
        autoencoder.refine_decoder(folder, model, 1.0, "cpu", steps)
        return model.state_dict()

    whole = refined(tmp_path / "whole", 4)
    with interrupted(2):
        refined(tmp_path / "halves", 4)
    resumed = refined(tmp_path / "halves", 4)
    changed = {name.partition(".")[0] for name, tensor in whole.items() if not torch.equal(tensor, start[name])}
    assert changed == {"decoder", "post_quant_conv"}
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
