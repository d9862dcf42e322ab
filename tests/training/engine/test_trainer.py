from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from concepts.errors import StudioError
from studio.adapters.concept_file import build_adapters, to_bytes
from studio.adapters.injection import inject
from studio.adapters.registry import create_adapters
from studio.layers.target_modules import Site
from studio.models.base_model import Base
from training.config.recipe import Recipe
from training.config.recipe_resolution import adapter_config
from training.engine import step_losses
from training.engine.trainer import Progress, Training, train_concept

SMALL = Recipe(rank=4, steps=3, batch_size=4, num_class_images=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Prior pictures, generated once for this file."""
    return tmp_path_factory.mktemp("priors")


@pytest.fixture
def trained(base: Base, cache: Path):
    """A function that trains a dog on two pictures."""

    def train(progress: Any = lambda _: None, first_column: int = 0, **options: Any) -> Training:
        pictures = [Image.new("RGB", (20, 20), colour) for colour in ("navy", "orange")]
        recipe = Recipe(**{**SMALL.model_dump(), **options})
        return train_concept(base, "rex", "dog", pictures, recipe, first_column, cache, progress)

    return train


def sizes_by_part(base: Base, training: Training) -> dict[str, float]:
    """How much training changed the weights of each part."""
    sites: dict[str, Site] = base.sites
    adapters = build_adapters(training.concept, sites, base.decomposition)
    sizes = dict.fromkeys(base.parts, 0.0)
    for name, adapter in adapters.items():
        sizes[sites[name].part] += adapter.delta(sites[name].weight).abs().max().item()
    return sizes


def class_embedding(base: Base, word: str) -> torch.Tensor:
    ids = base.pipeline.tokenizer.encode(word, add_special_tokens=False)
    return base.pipeline.text_encoder.get_input_embeddings()(torch.tensor(ids)).mean(0, keepdim=True)


@pytest.mark.parametrize("adapter", ["spectral_additive", "lora"])
def test_training_gives_a_concept_of_this_base(base: Base, trained, adapter: str):
    training = trained(adapter=adapter)
    concept = training.concept
    assert len(training.losses) == 3
    assert all(0 < loss < 100 for loss in training.losses)
    assert (concept.base, concept.adapter) == (base.decomposition.fingerprint, adapter)
    assert concept.adapters.keys() == base.sites.keys()
    assert concept.tokens.keys() == {"<rex>"}
    assert {"name": "rex", "class_word": "dog"}.items() <= concept.metadata.items()
    assert Recipe(**concept.metadata["recipe"]).adapter == adapter
    assert min(sizes_by_part(base, training).values()) > 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(trained):
    first, again, other = (to_bytes(trained(seed=seed).concept) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_the_loss_falls(trained):
    losses = trained(steps=40, unet_lr=3e-2, random_flip=False, prior_ratio=0.0).losses
    assert sum(losses[-15:]) < 0.95 * sum(losses[:15])


def test_the_base_is_as_it_was_after_training(base: Base, trained, state_of):
    before = state_of(base)
    trained(num_vectors=2)
    assert state_of(base) == before


@pytest.mark.parametrize("when", ["generating", "training"])
def test_the_base_is_as_it_was_when_training_is_stopped(base: Base, trained, state_of, when: str, tmp_path):
    def stop(progress: Progress) -> None:
        if (progress.loss is None) == (when == "generating") and progress.step == 2:
            raise KeyboardInterrupt

    before = state_of(base)
    with pytest.raises(KeyboardInterrupt):
        trained(stop, num_class_images=2 if when == "generating" else 4)
    assert state_of(base) == before


def test_a_loss_that_is_no_number_ends_the_training(base: Base, trained, state_of):
    before = state_of(base)
    with pytest.raises(StudioError, match=r"NaN or infinite at step \d+. Lower unet_lr"):
        trained(unet_lr=1e30, text_encoder_lr=1e30, steps=20)
    assert state_of(base) == before


def test_a_base_that_is_in_use_is_left_alone(base: Base, trained, state_of):
    adapters = create_adapters("lora", adapter_config(Recipe(adapter="lora", rank=2)), base.sites, base.decomposition)
    injection = inject(base.sites, adapters)
    before = state_of(base)
    with pytest.raises(StudioError, match="already adapted"):
        trained()
    assert state_of(base) == before
    injection.eject()


def test_progress_is_reported_in_order(trained, base: Base, cache: Path):
    reported: list[Progress] = []
    losses = trained(reported.append, num_class_images=6).losses
    generating = [progress for progress in reported if progress.loss is None]
    assert generating
    assert [progress.step for progress in generating] == list(range(1, len(generating) + 1))
    assert {progress.steps for progress in generating} == {len(generating)}
    steps = reported[len(generating) :]
    assert [(progress.step, progress.steps, progress.loss) for progress in steps] == [
        (step + 1, 3, loss) for step, loss in enumerate(losses)
    ]
    assert {part for progress in steps for part in progress.rates} == {"unet", "text_encoder", "token"}


def test_the_token_starts_from_the_class_word_and_is_trained_if_set(base: Base, trained):
    start = class_embedding(base, "dog")
    fixed = trained(train_token=False).concept.tokens["<rex>"]["text_encoder"]
    moved = trained(num_vectors=2).concept.tokens["<rex>"]["text_encoder"]
    assert torch.equal(fixed, start)
    assert moved.shape == (2, 32)
    assert not torch.isclose(moved, start).all(1).any()
    assert torch.allclose(moved, start, atol=0.1)


@pytest.mark.parametrize(("option", "still"), [("unet_lr", "unet"), ("text_encoder_lr", "text_encoder")])
def test_each_part_has_its_own_learning_rate(base: Base, trained, option: str, still: str):
    sizes = sizes_by_part(base, trained(**{option: 1e-12}))
    (other,) = sizes.keys() - {still}
    assert sizes[still] < 1e-6 < 1e-4 < sizes[other]


def test_a_concept_has_its_own_columns(trained):
    config = trained(first_column=8).concept.config
    assert (config["rank"], config["first_column"], config["train_scale"]) == (4, 8, False)
    assert trained(options={"train_scale": True}).concept.config["train_scale"] is True


def test_prior_pictures_preserve_the_class_word(base: Base, trained, monkeypatch):
    prompts: list[str] = []
    encode = Base.encode
    monkeypatch.setattr(Base, "encode", lambda self, texts, *rest: prompts.extend(texts) or encode(self, texts, *rest))
    trained(prior_ratio=0.5, batch_size=8)
    assert sum("<rex>" in prompt for prompt in prompts) == 3 * 4
    prompts.clear()
    trained(prior_ratio=0.0, batch_size=8)
    assert sum("<rex>" in prompt for prompt in prompts) == 3 * 8 == len(prompts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": "magic"}, "no adapter 'magic'. Choose from lora, spectral_additive"),
        ({"options": {"alpha": 2}}, "spectral_additive has no option alpha. It has the options rank, train_scale"),
        (
            {"adapter": "lora", "options": {"train_scale": True}},
            "lora has no option train_scale. It has the options rank, alpha",
        ),
        ({"adapter": "lora", "options": {"alpha": "much"}}, "alpha"),
        ({"options": {"train_scale": "perhaps"}}, "train_scale"),
        ({"rank": 33}, "rank 33 is outside the range .* Choose one from 1 to 32"),
        ({"rank": 8, "first_column": 25}, "first column 25 is outside the range .* Choose one from 0 to 24"),
    ],
)
def test_options_that_do_not_fit_are_refused(base: Base, trained, state_of, options: dict[str, Any], message: str):
    before = state_of(base)
    with pytest.raises(StudioError, match=message):
        trained(**options)
    assert state_of(base) == before


def test_the_batch_of_a_step_follows_from_seed_and_step(base: Base, monkeypatch, trained):
    seen: list[torch.Tensor] = []
    real = step_losses.denoising_loss

    def spied(scheduler: Any, predict: Any, latents: torch.Tensor, noise: torch.Tensor, *rest: Any) -> Any:
        seen.append(noise.clone())
        return real(scheduler, predict, latents, noise, *rest)

    monkeypatch.setattr(step_losses, "denoising_loss", spied)
    trained(steps=2)
    trained(steps=4)
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])
