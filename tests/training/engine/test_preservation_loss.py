from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

from studio.adapters.injection import injected
from studio.adapters.registry import create_adapters, method_named
from studio.layers.target_modules import find_sites
from studio.models.base_model import Base
from studio.models.token_embeddings import vectors_by_part
from training.config.recipe import Recipe
from training.config.recipe_resolution import adapter_config
from training.data.augmentation import Example
from training.data.class_images import any_prompt
from training.data.dataset import Sample, TrainingSet
from training.data.random_token import RANDOM_TOKEN, randomize_random_token
from training.engine.batch_sampler import Batch, draw_batches
from training.engine.distributed import ProcessGroup
from training.engine.preservation_loss import adapters_disabled, relative_output_change
from training.engine.prompt_cache import PromptCache
from training.engine.trainer import train_concept
from training.engine.training_task import Task

SMALL = Recipe(rank=4, steps=12, batch_size=8, num_class_images=4, unet_lr=1e-2, text_encoder_lr=1e-2)


PICTURE = Image.new("RGB", (20, 20), "orange")


def task(base: Base, **options) -> Task:
    recipe = Recipe(**{**SMALL.model_dump(), **options})
    return Task(base, "rex", "dog", [Example(PICTURE)], recipe, adapter_config(recipe))


@pytest.fixture
def data() -> TrainingSet:
    """Latents whose value says what they show: 1 the concept, 2 the class, 3 other things."""

    def four(value: float, caption: str | None) -> list[Sample]:
        return [Sample(torch.full((4, 8, 8), value), caption)] * 4

    return TrainingSet(four(1, None), four(2, "a photo of a dog"), four(3, "a photo of a cat"))


def sampled(data: TrainingSet, task: Task, number: int) -> Batch:
    (batch,) = draw_batches(data, task, number, 1000, ProcessGroup())
    return batch


@pytest.mark.parametrize("adapter", ["lora", "bitfit", "krona"])
@pytest.mark.parametrize("kind", [nn.Linear, nn.Conv2d])
def test_the_relative_output_change_is_that_of_its_definition(base: Base, adapter: str, kind: type[nn.Module]):
    config = method_named(adapter).Config()
    sites = find_sites(base.parts, ("attention", "inner_convolution"))
    site = next(site for site in sites.values() if isinstance(site.module, kind) and min(site.weight.shape) > 8)
    chosen = {site.name: site}
    adapters = create_adapters(adapter, config, chosen, base.decomposition)
    inputs = (5, 7, site.module.weight.shape[1]) if kind is nn.Linear else (5, site.module.weight.shape[1], 6, 8)
    x = torch.randn(*inputs, generator=torch.Generator().manual_seed(0))
    with injected(chosen, adapters):
        layer = getattr(site.parent, site.attribute)
        with relative_output_change(chosen, 2) as changes:
            layer(x)
        assert changes[0].max() < 1e-9
        for parameter in adapters[site.name].parameters():
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
        with relative_output_change(chosen, 2) as changes:
            output = layer(x)
        layer(x)
    assert len(changes) == 1
    frozen = site.module(x)[2:]
    change, size = ((each.flatten(1) ** 2).mean(1) for each in (output[2:] - frozen, frozen))
    expected = change / size
    assert expected.min() > 1e-4
    torch.testing.assert_close(changes[0], expected, rtol=1e-4, atol=0)


def test_with_preservation_loss_a_batch_ends_with_random_pictures_and_prompts(base: Base, data: TrainingSet):
    preserving = task(base, prior_ratio=0.5)
    batch = sampled(data, preserving, 0)
    assert (batch.num_instance, batch.total_instance, batch.total_prior, len(batch.prompts)) == (4, 4, 4, 8)
    assert batch.latents[:5, 0, 0, 0].tolist() == [1, 1, 1, 1, 2]
    assert all("<rex>" in prompt for prompt in batch.prompts[:4])
    assert batch.prompts[4] == "a photo of a dog"
    assert not any("<rex>" in prompt for prompt in batch.prompts[4:])
    again = sampled(data, preserving, 0)
    assert again.prompts == batch.prompts
    assert torch.equal(again.noise, batch.noise)
    batches = [sampled(data, preserving, step) for step in range(40)]
    assert {value for each in batches for value in each.latents[5:, 0, 0, 0].tolist()} == {1, 2, 3}
    prompts = {prompt for each in batches for prompt in each.prompts[5:]}
    assert "" in prompts
    assert len(prompts) > 60
    plain = sampled(data, task(base, prior_ratio=0.5, output_preservation_weight=0), 0)
    assert plain.latents[:, 0, 0, 0].tolist() == [1, 1, 1, 1, 2, 2, 3, 3]
    assert plain.prompts[4:] == ["a photo of a dog"] * 2 + ["a photo of a cat"] * 2


def test_only_every_nth_batch_has_the_samples_of_the_preservation_loss(base: Base, data: TrainingSet):
    every, third = (task(base, prior_ratio=0.5, preservation_interval=count) for count in (1, 3))
    for number in range(6):
        whole, batch = sampled(data, every, number), sampled(data, third, number)
        assert batch.prompts == (whole.prompts[:4] if number % 3 else whole.prompts)
        assert torch.equal(batch.latents, whole.latents[: len(batch.prompts)])


def test_prompts_of_other_things_are_good_english():
    generator = torch.Generator().manual_seed(0)
    prompts = [any_prompt("eagle", generator) for _ in range(2000)]
    assert any("an eagle" in prompt for prompt in prompts)
    assert any("an apple" in prompt for prompt in prompts)
    assert not any(" a apple" in prompt or " a eagle" in prompt for prompt in prompts)


def test_the_random_token_is_about_as_far_from_the_class_word_as_the_concept_and_removed_afterwards(
    base: Base, state_of
):
    before, wanted = state_of(base), task(base, num_vectors=2)
    distances, directions = [], []
    with wanted.ready({}):
        assert RANDOM_TOKEN not in vectors_by_part(base.text_encoders, wanted.token)
        own, strange = (
            vectors_by_part(base.text_encoders, name)["text_encoder"] for name in (wanted.token, RANDOM_TOKEN)
        )
        start = own.detach().clone()
        assert not strange.requires_grad
        with torch.no_grad():
            own[1, 0] += 3.0
        for seed in range(50):
            randomize_random_token(base.text_encoders, wanted.token, "dog", torch.Generator().manual_seed(seed))
            distances.append((strange - start).norm(dim=-1).tolist())
            directions.append((strange - start)[1])
        assert len(base.pipeline.tokenizer(f"a photo of {RANDOM_TOKEN}").input_ids) == len(
            base.pipeline.tokenizer(f"a photo of {wanted.token}").input_ids
        )
    assert [distance[0] for distance in distances] == [0] * 50
    assert min(distance[1] for distance in distances) == pytest.approx(1.5, abs=0.2)
    assert max(distance[1] for distance in distances) == pytest.approx(4.5, abs=0.2)
    assert torch.stack(directions).mean(0).norm() < 1.5
    assert state_of(base) == before


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_prompts_with_the_random_token(share: float):
    generator = torch.Generator().manual_seed(0)
    prompts = [prompt for prompt in (any_prompt("dog", generator, share) for _ in range(2000)) if prompt]
    assert sum(RANDOM_TOKEN in prompt for prompt in prompts) / len(prompts) == pytest.approx(share, abs=0.05)


def test_the_random_token_is_not_cached_where_other_prompts_are(base: Base, data: TrainingSet):
    fixed = task(base, target_modules=["cross_attention_kv"], freeze_token_after=1)
    with fixed.ready({}), torch.no_grad():
        with torch.no_grad():
            fixed.vectors["text_encoder"].add_(1.0)
        train_state = SimpleNamespace(token_is_trained=False)
        prompt_cache = PromptCache(base, train_state, adapts_text=False, low_memory=False)  # pyright: ignore[reportArgumentType]
        prompts = ["a dog", f"a photo of {RANDOM_TOKEN}"]
        with base.autocast():
            first = prompt_cache(prompts)
            randomize_random_token(base.text_encoders, fixed.token, "dog", torch.Generator().manual_seed(1))
            second = prompt_cache(prompts)
    assert torch.equal(first.context[0], second.context[0])
    assert not torch.equal(first.context[1], second.context[1])


def test_a_method_without_hookable_layers_has_the_prior_loss(base: Base):
    assert task(base).preserves_outputs
    assert not task(base, adapter="ada_link").preserves_outputs
    assert not task(base, output_preservation_weight=0).preserves_outputs
    assert not task(base, prior_ratio=0).preserves_outputs


def test_without_adapters_the_base_predicts_and_then_they_are_back(base: Base):
    sites = find_sites(base.parts, ("attention",))
    adapters = create_adapters("lora", adapter_config(Recipe(adapter="lora", rank=4)), sites, base.decomposition)
    for adapter in adapters.values():
        for parameter in adapter.parameters():
            nn.init.normal_(parameter)
    with torch.no_grad():
        plain = base.encode_prompts(["a cat"])
        with injected(sites, adapters):
            changed = base.encode_prompts(["a cat"])
            with adapters_disabled(sites):
                assert torch.equal(base.encode_prompts(["a cat"]), plain)
            assert torch.equal(base.encode_prompts(["a cat"]), changed)
    assert not torch.allclose(changed, plain, atol=1e-3)


def test_the_preservation_loss_preserves_outputs_for_other_prompts(base: Base, tmp_path):
    def change(weight: float) -> float:
        wanted = task(base, output_preservation_weight=weight)
        trained = train_concept(base, "rex", "dog", [PICTURE], wanted.recipe, cache=tmp_path)
        adapters = create_adapters("spectral_additive", wanted.config, base.sites, base.decomposition)
        for name, adapter in adapters.items():
            adapter.load_state_dict(trained.concept.adapters[name])
        prompts = ["a photo of a house", "a bird in the snow", ""]
        with torch.no_grad():
            before = base.encode_prompts(prompts)
            with injected(base.sites, adapters):
                return float((base.encode_prompts(prompts) - before).norm())

    assert change(200.0) < 0.7 * change(0.0)
