"""What the recipe's options do to a training."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from concepts.errors import StudioError
from studio.adapters.concept_file import TrainedConcept, from_bytes, to_bytes
from studio.composition.merge import applied
from studio.models.base_model import Base
from studio.models.sampling_settings import SamplingSettings
from training.config.recipe import Recipe
from training.data.augmentation import Example
from training.engine import validation
from training.engine.optimizers import LR_SCHEDULES
from training.engine.trainer import Training, TrainingStopped, train_concept
from training.engine.validation import Preview

STEPS = 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Prior pictures, generated once for this file."""
    return tmp_path_factory.mktemp("priors")


@pytest.fixture(autouse=True)
def quick_previews(monkeypatch):
    """Previews are generated in two steps."""
    monkeypatch.setattr(validation, "PREVIEW_SETTINGS", SamplingSettings(num_inference_steps=2))


@pytest.fixture
def train(base: Base, cache: Path) -> Callable[..., Training]:
    """A function that trains a dog on two pictures by a recipe with these options."""

    def run(recipe: dict[str, Any], **options: Any) -> Training:
        pictures = [Image.new("RGB", (20, 20), colour) for colour in ("navy", "orange")]
        small = {
            "rank": 4,
            "steps": STEPS,
            "batch_size": 4,
            "num_class_images": 4,
            "mixed_precision": "float32",
            **recipe,
        }
        return train_concept(base, "rex", "dog", pictures, Recipe(**small), cache=cache, **options)

    return run


def numbers(concept: TrainedConcept) -> torch.Tensor:
    """All that was trained, in one row."""
    tensors = [tensor for state in concept.adapters.values() for tensor in state.values()]
    return torch.cat(
        [*(t.flatten() for t in tensors), *(p.flatten() for t in concept.tokens.values() for p in t.values())]
    )


def resumed(train: Callable[..., Training], recipe: dict[str, Any], folder: Path, **options: Any) -> Training:
    """The training, stopped after its second step and gone on with."""
    asked = iter(range(1, 10**6))
    with pytest.raises(TrainingStopped):
        train(recipe, checkpoints=folder, stop=lambda: next(asked) == 3, **options)
    return train(recipe, checkpoints=folder, **options)


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "adafactor", "lr_scheduler": "cosine"},
        {"optimizer": "prodigy", "lr_scheduler": "cosine_restarts"},
        {"ema_decay": 0.9, "gradient_accumulation_steps": 2, "max_grad_norm": 0},
        {"lr_scheduler": "constant", "lr_warmup_steps": 0, "snr_gamma": 5.0, "freeze_token_after": 3},
        {"mixed_precision": "bfloat16", "gradient_checkpointing": True, "lr_scheduler": "polynomial"},
        {"layerwise_token": True, "num_vectors": 2},
    ],
    ids=lambda recipe: next(iter(recipe.values())),
)
def test_with_every_recipe_a_training_learns_and_is_resumed_exactly(train, tmp_path, recipe: dict[str, Any]):
    whole = train(recipe)
    assert numbers(whole.concept).isfinite().all()
    assert not torch.equal(numbers(whole.concept), numbers(train({**recipe, "steps": 1}).concept))
    again = resumed(train, recipe, tmp_path)
    assert to_bytes(again.concept) == to_bytes(whole.concept)
    assert (again.record.rates, again.losses) == (whole.record.rates, whole.losses)


def test_8_bit_and_half_precision_need_a_gpu(train):
    with pytest.raises(StudioError, match="adamw8bit needs an NVIDIA GPU"):
        train({"optimizer": "adamw8bit"})
    with pytest.raises(StudioError, match="float16 needs a GPU"):
        train({"mixed_precision": "float16"})


@pytest.mark.parametrize("schedule", LR_SCHEDULES)
def test_learning_rates_rise_and_then_follow_their_schedule(train, schedule: str):
    steps, warmup = 8, 3
    recipe = {
        "steps": steps,
        "lr_warmup_steps": warmup,
        "lr_scheduler": schedule,
        "unet_lr": 1.0,
        "text_encoder_lr": 1e-9,
    }
    rates = train(recipe).record.rates
    expected = [min(1, (step + 1) / warmup) * LR_SCHEDULES[schedule](step / steps, 2) for step in range(steps)]
    assert rates["unet"] == pytest.approx(expected)
    assert rates["text_encoder"] == pytest.approx([1e-9 * share for share in expected])
    assert max(rates["unet"][warmup:]) <= 1
    shares = {"linear": 0.5, "constant": 1, "cosine": 0.5, "cosine_restarts": 1, "polynomial": 0.25}
    assert rates["unet"][4] == pytest.approx(shares[schedule])


def test_accumulated_gradients_equal_those_of_one_large_batch(train):
    one = train({"steps": 1, "gradient_accumulation_steps": 1, "seed": 3})
    two = train({"steps": 1, "gradient_accumulation_steps": 2, "seed": 3})
    assert one.losses != two.losses
    assert two.record.pictures_per_second * two.record.seconds == pytest.approx(2 * 4)


def test_gradient_checkpointing_and_low_memory_change_nothing_but_memory(train, base: Base, state_of):
    before = state_of(base)
    plain = train({"ema_decay": 0.5})
    for option in ("gradient_checkpointing", "low_memory"):
        saving = train({"ema_decay": 0.5, option: True})
        torch.testing.assert_close(numbers(saving.concept), numbers(plain.concept), rtol=1e-4, atol=1e-6)
    assert state_of(base) == before
    assert not any(module.training for module in base.pipeline.text_encoder.modules())
    assert not base.pipeline.unet.is_gradient_checkpointing


def test_clipping_bounds_the_gradient(train):
    free, tight = (train({"max_grad_norm": clip, "steps": 1, "optimizer": "adafactor"}) for clip in (0, 1e-12))
    assert free.losses == tight.losses
    assert not torch.equal(numbers(free.concept), numbers(tight.concept))


def test_a_token_is_left_as_it_is_after_so_many_steps(train):
    frozen, early = (
        train({"freeze_token_after": 2, "lr_scheduler": "constant"}),
        train({"steps": 2, "lr_scheduler": "constant"}),
    )
    vectors = [training.concept.tokens["<rex>"]["text_encoder"] for training in (frozen, early)]
    assert torch.equal(*vectors)
    assert [rate > 0 for rate in frozen.record.rates["token"]] == [True, True, False, False]
    assert len(frozen.record.rates["unet"]) == STEPS


def test_each_layer_trains_its_own_vectors(train, base: Base):
    concept = train({"layerwise_token": True}).concept
    vectors = concept.tokens["<rex>"]["text_encoder"]
    assert vectors.shape == (len(base.attention_blocks), 1, 32)
    assert len({tuple(each.flatten().tolist()) for each in vectors}) == len(vectors)
    further = train({"layerwise_token": True, "seed": 1}, start=concept).concept.tokens["<rex>"]["text_encoder"]
    assert further.shape == vectors.shape
    assert 0 < (further - vectors).norm() < (further - torch.randn_like(further)).norm()


def test_prompts_with_fixed_embeddings_are_encoded_once(train, base: Base, monkeypatch):
    encode, read = Base.encode, []
    monkeypatch.setattr(Base, "encode", lambda self, texts, *rest: read.append(texts) or encode(self, texts, *rest))
    recipe = {"target_modules": ["cross_attention_kv"], "train_token": False, "steps": 8}
    cached = train(recipe)
    read = [texts for texts in read if any("rex" in text for text in texts)]
    assert read
    assert all(len(texts) == 1 for texts in read)
    assert len({text for (text,) in read}) == len(read)
    assert to_bytes(train(recipe).concept) == to_bytes(cached.concept)
    assert "token" not in cached.record.rates


@pytest.mark.parametrize("adapter", ["spectral_additive", "lora"])
@pytest.mark.parametrize("kind", ["attention_kv", "feed_forward", "up_convolution", "inner_convolution"])
def test_other_kinds_of_layers_can_be_adapted(train, base: Base, adapter: str, kind: str):
    concept = from_bytes(to_bytes(train({"adapter": adapter, "target_modules": [kind], "steps": 2}).concept), "it")
    assert concept.adapters.keys() == base.sites_of((kind,)).keys()
    changed = {"up", "change_u"}
    assert any(state[name].any() for state in concept.adapters.values() for name in changed & state.keys())
    latents, context = torch.randn(1, 4, 8, 8), base.encode_prompts(["a dog"])
    before = base.pipeline.unet(latents, 5, context).sample
    with applied(base, {"rex": concept}):
        assert not torch.equal(base.pipeline.unet(latents, 5, context).sample, before)


def test_with_ema_a_training_returns_the_average(train):
    last, average = train({"ema_decay": 0.0}), train({"ema_decay": 0.9})
    assert last.losses == average.losses
    assert numbers(average.concept).norm() < numbers(last.concept).norm()


class ScoreSequence:
    """Scores previews with these numbers in turn."""

    def __init__(self, *scores: float):
        self.scores, self.seen = iter(scores), 0

    def __call__(self, pictures: Sequence[Image.Image]) -> float:
        self.seen += len(pictures)
        return next(self.scores)


def test_previews_are_generated_on_the_way_and_change_nothing(train):
    shown: list[Preview] = []
    scored = train(
        {"validation_steps": 2, "num_validation_images": 2, "steps": 5},
        on_preview=shown.append,
        score=ScoreSequence(0.1, 0.3, 0.2),
    )
    assert [(preview.step, preview.alignment) for preview in shown] == [(2, 0.1), (4, 0.3), (5, 0.2)]
    assert scored.record.alignments == [(2, 0.1), (4, 0.3), (5, 0.2)]
    assert [len(preview.pictures) for preview in shown] == [2, 2, 2]
    assert shown[0].pictures[0].tobytes() != shown[1].pictures[0].tobytes()
    assert torch.equal(numbers(scored.concept), numbers(train({"steps": 5}).concept))


def test_the_best_state_is_returned_and_training_stops_early(train, tmp_path):
    recipe = {
        "validation_steps": 1,
        "num_validation_images": 1,
        "steps": 9,
        "keep_best": True,
        "early_stopping_patience": 2,
        "lr_scheduler": "constant",
    }
    scores = (0.1, 0.5, 0.4, 0.5, 0.9)
    ended = train(recipe, score=ScoreSequence(*scores))
    assert len(ended.losses) == 4
    best = train({"steps": 2, "lr_scheduler": "constant"})
    assert torch.equal(numbers(ended.concept), numbers(best.concept))
    asked = iter(range(1, 10**6))
    score = ScoreSequence(*scores)
    with pytest.raises(TrainingStopped):
        train(recipe, score=score, checkpoints=tmp_path, stop=lambda: next(asked) == 4)
    assert to_bytes(train(recipe, score=score, checkpoints=tmp_path).concept) == to_bytes(ended.concept)
    last = train(
        {**recipe, "keep_best": False, "early_stopping_patience": None, "steps": 4}, score=ScoreSequence(*scores)
    )
    assert not torch.equal(numbers(last.concept), numbers(best.concept))


def test_a_training_reports_what_it_did(train, base: Base):
    record = train({"adapter": "svdiff", "rank": None}).record
    assert record.trained == sum(min(site.weight.shape) for site in base.sites.values()) + 32
    assert 0 < record.changed <= sum(site.weight.numel() for site in base.sites.values())
    assert record.changed > record.trained
    assert record.pictures_per_second == pytest.approx(STEPS * 4 / record.seconds)
    assert 50e6 < record.peak_bytes < 1e12
    assert all(math.isfinite(rate) for rates in record.rates.values() for rate in rates)


def test_only_what_a_mask_shows_counts(base: Base, cache: Path):
    def train(outside: float, colour: str, masked: bool = True) -> Training:
        picture, mask = Image.new("RGB", (16, 16), "navy"), Image.new("L", (16, 16))
        picture.paste(colour, (0, 0, 16, 8))
        mask.paste(255, (0, 8, 16, 16))
        recipe = Recipe(
            rank=4,
            steps=2,
            batch_size=4,
            num_class_images=4,
            mixed_precision="float32",
            masked_loss=masked,
            unmasked_weight=outside,
        )
        return train_concept(base, "rex", "dog", [Example(picture, None, mask)], recipe, cache=cache)

    everywhere, nowhere = train(1, "red"), train(1, "red", masked=False)
    torch.testing.assert_close(numbers(everywhere.concept), numbers(nowhere.concept))
    assert train(0, "red").losses != everywhere.losses


def test_captions_and_masks_are_used_where_pictures_have_them(train):
    """Without any, the default recipe is that of templates without masks."""
    plain = train({"captions": "templates", "masked_loss": False})
    torch.testing.assert_close(train({}).losses, plain.losses, rtol=0, atol=0)


def test_pictures_of_several_aspect_ratios_are_trained_together(base: Base, cache: Path):
    pictures = [Image.new("RGB", size, "navy") for size in ((32, 16), (16, 32), (20, 20))]
    recipe = Recipe(
        rank=4,
        steps=3,
        batch_size=6,
        num_class_images=4,
        mixed_precision="float32",
        buckets=3,
        random_flip=True,
        crops=1,
    )
    training = train_concept(base, "rex", "dog", pictures, recipe, cache=cache)
    assert len(training.losses) == 3
    assert all(math.isfinite(loss) for loss in training.losses)


def test_weights_in_captions_are_applied_where_the_recipe_says_so(base: Base, cache: Path):
    def trained(caption: str, **options: Any) -> torch.Tensor:
        picture = Example(Image.new("RGB", (20, 20), "navy"), caption)
        recipe = Recipe(rank=4, steps=2, batch_size=4, num_class_images=4, mixed_precision="float32", **options)
        return numbers(train_concept(base, "rex", "dog", [picture], recipe, cache=cache).concept)

    plain, weighed = "a <rex> here", "a <rex> (here:1.5)"
    assert torch.equal(trained(plain), trained(plain, prompt_syntax="a1111"))
    assert not torch.equal(trained(plain, prompt_syntax="a1111"), trained(weighed, prompt_syntax="a1111"))
    assert torch.equal(trained(plain), trained("a <rex> (here:1)", prompt_syntax="a1111"))
    assert not torch.equal(trained(weighed), trained(weighed, prompt_syntax="a1111"))
