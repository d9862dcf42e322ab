import numpy as np
import pytest
import torch

from studio.errors import StudioError
from studio.scoring import load_scorer
from training.toybox import laws, scorer, scorer_training
from training.toybox.render import draw_scene
from training.toybox.renders import scenes, to_signal
from training.toybox.scorer_training import Verifier, cut, drawn, identity_loss

pytestmark = pytest.mark.usefixtures("small_models")


def test_training_resumes_exactly(resumes_exactly, bundled_tokenizer):
    def train(folder, steps):
        model = scorer_training.train(folder, bundled_tokenizer, "cpu", steps)
        return torch.nn.ModuleList([model.clip, model.head])

    resumes_exactly(train)


def test_what_is_written_is_what_open_clip_reads(bundled_tokenizer, tmp_path):
    torch.manual_seed(0)
    model = scorer.build(scorer.model_config(bundled_tokenizer))
    model.clip.eval()
    scorer.write(model, bundled_tokenizer, tmp_path / scorer.NAME)
    loaded = load_scorer(str(tmp_path / scorer.NAME))
    assert loaded.backbone == scorer.NAME
    texts = ["a blue cat", "a vase on the beach"]
    ids = bundled_tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    with torch.inference_mode():
        words = model.clip.encode_text(ids)
        torch.testing.assert_close(scorer.encode_texts(model.clip, ids), words)
    torch.testing.assert_close(
        loaded.embed_texts(texts), torch.nn.functional.normalize(words, dim=-1), rtol=0.02, atol=0.02
    )
    picture = draw_scene(scenes(0, count=1)[0])
    levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        features = model.clip.encode_image(to_signal(levels))
        vectors, intact = model.head(features)
    torch.testing.assert_close(
        loaded.embed_pictures([picture]), torch.nn.functional.normalize(features, dim=-1), rtol=0.02, atol=0.02
    )
    looks = loaded.look_at([picture])
    torch.testing.assert_close(looks.vectors, vectors, rtol=0.02, atol=0.02)
    torch.testing.assert_close(looks.intact, intact, rtol=0.02, atol=0.02)


def test_a_scorer_knows_individuals_once_its_thresholds_are_set(bundled_tokenizer, tmp_path):
    torch.manual_seed(0)
    scorer.write(scorer.build(scorer.model_config(bundled_tokenizer)), bundled_tokenizer, tmp_path)
    pictures = [draw_scene(scene) for scene in scenes(0, count=3)]
    with pytest.raises(StudioError, match="taught to tell individuals apart"):
        load_scorer(str(tmp_path)).recognition(pictures[:1], [pictures[1:]])
    laws.calibrate(tmp_path, 2)
    known = load_scorer(str(tmp_path)).recognition(pictures[:1], [pictures[1:]])
    assert known.thresholds.similarity < 1


def test_a_batch_has_two_portraits_a_lookalike_and_a_spoiled_picture_of_each(monkeypatch):
    monkeypatch.setattr(scorer_training, "INDIVIDUALS", 3)
    monkeypatch.setattr(scorer_training, "SCENES", 2)
    batch = drawn(np.random.default_rng(0))
    assert batch.levels.shape == (3 * 4 + 2, 128, 128, 3)
    assert len(batch.texts) == 3 * 3 + 2
    assert len({picture.tobytes() for picture in batch.levels}) == len(batch.levels)


def test_the_identity_loss_wants_portraits_together_and_all_else_apart():
    axes = torch.eye(9)
    portraits, lookalikes, spoiled = axes[:3], axes[3:6], axes[6:]
    right = torch.cat([portraits, portraits, lookalikes, spoiled])
    whole, broken = torch.full((9,), 9.0), torch.full((3,), -9.0)
    best = identity_loss(right, torch.cat([whole, broken]), Verifier(), 3)
    assert best < 0.2
    for rows in (
        torch.cat([portraits, portraits.roll(1, 0), lookalikes, spoiled]),
        torch.cat([portraits, portraits, portraits, spoiled]),
        torch.cat([portraits, portraits, lookalikes, portraits]),
    ):
        assert identity_loss(rows, torch.cat([whole, broken]), Verifier(), 3) > best + 0.5
    assert identity_loss(right, torch.cat([whole, -broken]), Verifier(), 3) > best + 0.5


def test_a_cut_is_a_part_of_the_picture_at_full_size():
    signal = torch.linspace(-1, 1, 128).view(1, 1, 1, 128).expand(2, 3, 128, 128)
    results = [cut(signal, np.random.default_rng(seed)) for seed in range(30)]
    assert all(result.shape == signal.shape for result in results)
    changed = [result for result in results if not torch.equal(result, signal)]
    assert 5 < len(changed) < 25
    for result in changed:
        assert result.min() >= -1
        assert result.max() <= 1
        assert result[..., -1].mean() - result[..., 0].mean() < 1.999
