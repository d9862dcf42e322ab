import numpy as np
import pytest
import torch

from studio.metrics.clip import load_scorer
from training.toybox.scenes.dataset import scenes
from training.toybox.scenes.render import draw_scene
from training.toybox.stages import scorer

pytestmark = pytest.mark.usefixtures("small_models")


def test_training_resumes_exactly(resumes_exactly, bundled_tokenizer):
    resumes_exactly(lambda folder, steps: scorer.train(folder, bundled_tokenizer, "cpu", steps))


def test_what_is_written_is_what_open_clip_reads(bundled_tokenizer, tmp_path):
    torch.manual_seed(0)
    model = scorer.build(scorer.model_config(bundled_tokenizer)).eval()
    scorer.write(model, bundled_tokenizer, tmp_path / scorer.NAME)
    loaded = load_scorer(str(tmp_path / scorer.NAME))
    assert loaded.backbone == scorer.NAME
    texts = ["a blue cat", "a vase on the beach"]
    ids = bundled_tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    with torch.inference_mode():
        words = model.encode_text(ids)
        torch.testing.assert_close(scorer.encode_texts(model, ids), words)
        expected = torch.nn.functional.normalize(words, dim=-1)
    torch.testing.assert_close(loaded.embed_texts(texts), expected, rtol=0.02, atol=0.02)
    picture = draw_scene(scenes(0, count=1)[0])
    levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        image = model.encode_image(scorer.to_signal(levels))
    torch.testing.assert_close(
        loaded.embed_pictures([picture]), torch.nn.functional.normalize(image, dim=-1), rtol=0.02, atol=0.02
    )


def test_a_cut_is_a_part_of_the_picture_at_full_size():
    signal = torch.linspace(-1, 1, 128).view(1, 1, 1, 128).expand(2, 3, 128, 128)
    results = [scorer.random_crop(signal, np.random.default_rng(seed)) for seed in range(30)]
    assert all(result.shape == signal.shape for result in results)
    changed = [result for result in results if not torch.equal(result, signal)]
    assert 5 < len(changed) < 25
    for result in changed:
        assert result.min() >= -1
        assert result.max() <= 1
        assert result[..., -1].mean() - result[..., 0].mean() < 1.999
