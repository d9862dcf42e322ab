import shutil
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from pydantic import ValidationError

from concepts.errors import StudioError
from studio.models.base_model import Base, generate, generate_images, generate_latents, load_base
from studio.models.regions.region import Region
from studio.models.sampling_settings import SamplingSettings

QUICK = SamplingSettings(num_inference_steps=3)


def pixels(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture, dtype=float) for picture in pictures])


def test_a_base_is_loaded_frozen_with_its_sites(base: Base):
    assert base.side == 16
    assert {site.part for site in base.sites.values()} == {"unet", "text_encoder"}
    assert base.decomposition.capacity == 32
    modules = [*base.parts.values(), base.pipeline.vae]
    assert not any(module.training for module in modules)
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())


def test_the_columns_are_kept_in_the_cache(tiny_folder, tmp_path):
    first = load_base(str(tiny_folder), tmp_path, "cpu")
    name = next(iter(first.sites))
    columns = first.decomposition.columns(name)
    (stored,) = tmp_path.glob("*.safetensors")
    before = stored.stat().st_mtime_ns
    again = load_base(str(tiny_folder), tmp_path, "cpu").decomposition.columns(name)
    assert torch.equal(again.u, columns.u)
    assert stored.stat().st_mtime_ns == before


def test_loading_prints_nothing_and_restores_progress_bars(tiny_folder, capfd, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    load_base(str(tiny_folder), device="cpu")
    assert capfd.readouterr() == ("", "")
    assert diffusers.utils.logging.is_progress_bar_enabled()
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_what_is_no_base_is_refused(tmp_path):
    with pytest.raises(StudioError, match=r"No base could be loaded from .*base.* Give --base toybox, a diffusers"):
        load_base(str(tmp_path / "base"))


def test_a_base_lists_the_layers_that_concepts_adapt(tiny_folder, tmp_path):
    assert load_base(str(tiny_folder), device="cpu").default_target_modules == ("attention",)
    folder = tmp_path / "base"
    shutil.copytree(tiny_folder, folder)
    (folder / "studio.json").write_text('{"sites": ["attention", "up_convolution"]}')
    assert load_base(str(folder), device="cpu").default_target_modules == ("attention", "up_convolution")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"sites": 3}', '{"sites": []}', '{"sites": ["norm"]}', '{"sites": [3]}']
)
def test_layers_that_no_concept_can_adapt_are_refused(text: str, tiny_folder, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(tiny_folder, folder)
    (folder / "studio.json").write_text(text)
    with pytest.raises(StudioError, match=r"studio\.json"):
        load_base(str(folder), device="cpu")


@pytest.mark.parametrize("options", [{"num_inference_steps": 0}, {"num_inference_steps": 1001}, {"batch_size": 0}])
def test_settings_outside_their_range_are_refused(options: dict[str, Any]):
    with pytest.raises(ValidationError, match=str(*options.values())):
        SamplingSettings(**options)


def test_prompts_are_encoded_as_diffusers_encodes_them(base: Base):
    prompts = ["a cat on the beach", "a cat " * 12]
    ids = base.token_ids(prompts)
    assert ids.shape == (2, base.pipeline.tokenizer.model_max_length)
    ours = base.encode_prompts(prompts)
    theirs, _ = base.pipeline.encode_prompt(prompts, base.device, 1, do_classifier_free_guidance=False)
    assert torch.equal(ours, theirs)


def test_pictures_are_encoded_as_scaled_latents(base: Base):
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("black", "white")]
    latents = base.encode_pictures(pictures)
    assert latents.shape == (2, 4, 8, 8)
    assert latents.dtype == torch.float32
    vae = base.pipeline.vae
    for level, row in zip((-1.0, 1.0), latents, strict=True):
        mean = vae.encode(torch.full((1, 3, 16, 16), level)).latent_dist.mean[0] * vae.config.scaling_factor
        torch.testing.assert_close(row, mean)


def test_generating_is_what_diffusers_generates(base: Base):
    settings = SamplingSettings(
        num_inference_steps=3, guidance_scale=5.0, guidance_rescale=0.3, negative_prompt="a dog"
    )
    (ours,) = generate(base, "a cat", [7], settings)
    with base.autocast():
        theirs: Any = base.pipeline(
            "a cat", negative_prompt="a dog", num_inference_steps=3, guidance_scale=5.0, guidance_rescale=0.3,
            generator=torch.Generator().manual_seed(7),
        )  # fmt: skip
    assert ours.size == (16, 16)
    assert ours.tobytes() == theirs.images[0].tobytes()


def test_a_seed_gives_the_same_picture_again_and_another_seed_another(base: Base):
    first, second = generate(base, "a cat", [3, 4], QUICK)
    again = generate(base, "a cat", [3, 4], QUICK)
    assert [first.tobytes(), second.tobytes()] == [picture.tobytes() for picture in again]
    assert first.tobytes() != second.tobytes()


def test_a_picture_depends_on_its_own_seed_not_on_its_batch(base: Base):
    seeds = [3, 4, 5]
    together = generate(base, "a cat", seeds, SamplingSettings(num_inference_steps=3, batch_size=3))
    in_twos = generate(base, "a cat", seeds, SamplingSettings(num_inference_steps=3, batch_size=2))
    alone = [generate(base, "a cat", [seed], QUICK)[0] for seed in seeds]
    assert len(together) == len(in_twos) == 3
    # bfloat16 products of other shapes round differently, by a level or two
    assert np.abs(pixels(together) - pixels(alone)).max() <= 4
    assert np.abs(pixels(together) - pixels(in_twos)).max() <= 4
    assert np.abs(pixels(alone)[0] - pixels(alone)[1]).max() > 20


def test_prompts_and_guidance_change_the_latents(base: Base):
    def latents(prompt: str, **options) -> torch.Tensor:
        return generate_latents(
            base, [prompt], [0], SamplingSettings(**{"num_inference_steps": 3, "guidance_scale": 5.0, **options})
        )

    plain = latents("a cat")
    assert torch.equal(plain, latents("a cat"))
    others = [
        latents("a house on the beach"),
        latents("a cat", negative_prompt="a dog"),
        latents("a cat", guidance_scale=9),
    ]
    assert not any(torch.equal(plain, other) for other in others)


def test_each_prompt_is_generated_with_its_own_seed(base: Base):
    prompts, seeds = ["a cat", "a dog", "a house"], [5, 6, 7]
    pictures = generate_images(base, prompts, seeds, SamplingSettings(num_inference_steps=3, batch_size=2))
    alone = [generate(base, prompt, [seed], QUICK)[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    assert np.abs(pixels(pictures) - pixels(alone)).max() <= 4
    latents = generate_latents(base, prompts, seeds, SamplingSettings(num_inference_steps=3, batch_size=2))
    assert latents.shape == (3, 4, 8, 8)
    assert latents.dtype == torch.float32
    assert latents.isfinite().all()


def test_on_step_is_called_for_every_step_of_every_batch(base: Base):
    steps = []
    generate(
        base, "a cat", range(5), SamplingSettings(num_inference_steps=3, batch_size=2), on_step=lambda: steps.append(1)
    )
    assert len(steps) == 9
    generate_images(
        base,
        ["a cat"] * 3,
        range(3),
        SamplingSettings(num_inference_steps=2, batch_size=2),
        on_step=lambda: steps.append(1),
    )
    assert len(steps) == 9 + 4


def test_a_picture_may_be_wide_or_high(base: Base):
    step = base.size_step
    for size in ((4 * step, 2 * step), (2 * step, 4 * step)):
        (picture,) = generate(
            base, "a cat", [0], SamplingSettings(num_inference_steps=1, size=size), [Region("a dog", 0, 0, 1, 0.5)]
        )
        assert picture.size == size
    with pytest.raises(StudioError, match=f"multiples of {step}"):
        generate(base, "a cat", [0], SamplingSettings(num_inference_steps=1, size=(2 * step, step + 1)))


def test_generating_leaves_the_base_as_it_was_also_when_it_fails(base: Base, state_of):
    def stop() -> None:
        raise RuntimeError("stop")

    before, regions = state_of(base), [Region("a dog", 0, 0, 1, 0.5)]
    generate(base, "a cat", [0], QUICK, regions)
    assert state_of(base) == before
    with pytest.raises(RuntimeError, match="stop"):
        generate(base, "a cat", [0], QUICK, regions, on_step=stop)
    assert state_of(base) == before
