import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from concepts.errors import StudioError
from studio.bundled import TOYBOX_CLIP
from studio.metrics.clip import load_scorer
from studio.metrics.identity import IDENTITY_THRESHOLDS, IDENTITY_WEIGHTS, IdentityNetwork
from training.toybox.evaluation import identity_benchmark
from training.toybox.scenes.dataset import scenes, to_signal
from training.toybox.scenes.render import draw_scene
from training.toybox.stages import identity
from training.toybox.stages.detector import Detector
from training.toybox.stages.identity import IdentityModel, Verifier, identity_loss, sample_batch, train_step
from training.toybox.stages.masked_loss import IGNORE_INDEX

pytestmark = pytest.mark.usefixtures("small_models")


def test_training_resumes_exactly(resumes_exactly):
    resumes_exactly(lambda folder, steps: identity.train(folder, "cpu", steps))


def test_training_begins_with_a_detectors_first_layers(tmp_path):
    torch.manual_seed(0)
    start = Detector()
    network = identity.train(tmp_path, "cpu", 0, start)
    own, first = network.state_dict(), start.state_dict()
    shared = [name for name in own if name.split(".")[0] in ("fine", "middle", "coarse")]
    assert len(shared) > 50
    assert all(torch.equal(own[name], first[name]) for name in shared)


def test_a_network_distinguishes_individuals_once_its_thresholds_are_set(tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(TOYBOX_CLIP, folder)
    for name in (IDENTITY_WEIGHTS, IDENTITY_THRESHOLDS):
        (folder / name).unlink(missing_ok=True)
    pictures = [draw_scene(scene) for scene in scenes(0, count=3)]
    with pytest.raises(StudioError, match="mine cannot measure identity accuracy"):
        load_scorer(str(folder)).extract_features(pictures)
    torch.manual_seed(0)
    made = IdentityNetwork().eval()
    identity.write(made, folder)
    with pytest.raises(StudioError, match="cannot measure identity accuracy"):
        load_scorer(str(folder)).recognition(pictures[:1], [pictures[1:]])
    identity_benchmark.calibrate(folder, 2)
    loaded = load_scorer(str(folder))
    assert loaded.recognition(pictures[:1], [pictures[1:]]).thresholds.similarity < 1
    levels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        vectors, intact = made(to_signal(levels))
    looks = loaded.extract_features(pictures)
    torch.testing.assert_close(looks.vectors, vectors, rtol=0.02, atol=0.02)
    torch.testing.assert_close(looks.intact, intact, rtol=0.02, atol=0.02)


def test_a_batch_has_two_views_a_hard_negative_and_a_corrupted_picture_of_each(monkeypatch):
    monkeypatch.setattr(identity, "INDIVIDUALS", 3)
    batch = sample_batch(np.random.default_rng(0))
    assert batch.levels.shape == (3 * 4, 128, 128, 3)
    assert len({picture.tobytes() for picture in batch.levels}) == len(batch.levels)
    for wanted in batch.traits.values():
        assert wanted.shape == (9,)
        assert torch.equal(wanted[:3], wanted[3:6])
    assert (batch.traits["kind"] != IGNORE_INDEX).all()


def test_the_network_learns():
    torch.manual_seed(0)
    model, batch = IdentityModel(), sample_batch(np.random.default_rng(1))
    signal = to_signal(torch.from_numpy(batch.levels).permute(0, 3, 1, 2))
    optimizer, losses = torch.optim.AdamW(model.parameters(), 2e-3), []
    for _ in range(8):
        loss = train_step(model, signal, batch.traits)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_vectors_have_the_length_one_and_places_are_weighted():
    torch.manual_seed(0)
    network, pictures = IdentityNetwork().eval(), torch.randn(2, 3, 128, 128)
    vectors, intact = network(pictures)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    assert intact.shape == (2,)
    torch.testing.assert_close(vectors, F.normalize(network.projection(network.features(pictures)), dim=-1))


def test_the_identity_loss_is_lowest_for_equal_views_and_distinct_others():
    axes = torch.eye(9)
    views, hard_negatives, corrupted = axes[:3], axes[3:6], axes[6:]
    right = torch.cat([views, views, hard_negatives, corrupted])
    whole, broken = torch.full((9,), 9.0), torch.full((3,), -9.0)
    best = identity_loss(right, torch.cat([whole, broken]), Verifier(), 3)
    assert best < 0.2
    for rows in (
        torch.cat([views, views.roll(1, 0), hard_negatives, corrupted]),
        torch.cat([views, views, views, corrupted]),
        torch.cat([views, views, hard_negatives, views]),
    ):
        assert identity_loss(rows, torch.cat([whole, broken]), Verifier(), 3) > best + 0.5
    assert identity_loss(right, torch.cat([whole, -broken]), Verifier(), 3) > best + 0.5
