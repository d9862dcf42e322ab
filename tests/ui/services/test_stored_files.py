"""What libraries, concept files and pictures of before 0.1.0 keep under former names is still read.

The files in tests/data/before_renaming were written by commit bd6034d: a library with one trained concept and one
queued job on the tiny base, and a picture with its settings.
"""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from concepts import Library
from concepts.storage import read_file
from studio.adapters.concept_file import from_bytes
from studio.models.base_model import Base
from studio.models.generation_request import GenerationRequest
from training.config.recipe import Recipe
from training.config.recipe_resolution import continued_recipe
from training.config.stored_recipe import RENAMED, stored_recipe
from training.engine.trainer import train_concept
from ui.services.gallery import FOLDER, adopt_former, settings_of

FILES = Path(__file__).parents[2] / "data" / "before_renaming"
SHARED = {
    "rank": 1, "target_modules": ("cross_attention_kv",), "steps": 2, "batch_size": 2,
    "gradient_accumulation_steps": 2, "threads": 1, "unet_lr": 1e-3, "text_encoder_lr": 1e-4, "token_lr": 1e-3,
    "lr_scheduler": "cosine_restarts", "lr_num_cycles": 1, "lr_warmup_steps": 1, "max_grad_norm": 0.5,
    "mixed_precision": "float32", "ema_decay": 0.5, "snr_gamma": 5.0, "prior_ratio": 0.5,
    "output_preservation_weight": 10.0, "random_token_ratio": 0.25, "num_class_images": 2, "unmasked_weight": 0.1,
    "captions": "templates", "masked_loss": False,
    "random_flip": True, "shuffle_caption": True, "num_vectors": 2, "validation_steps": 1,
    "validation_prompt": "a drawing of {}", "num_validation_images": 1, "early_stopping_patience": 5,
}  # fmt: skip
TRAINED = Recipe.model_validate({"adapter": "lora", **SHARED})
QUEUED = Recipe.model_validate({"adapter": "oft", **SHARED})


@pytest.fixture
def library(tmp_path: Path) -> Library:
    root = tmp_path / "library"
    shutil.copytree(FILES / "library", root)
    with sqlite3.connect(root / "studio.sqlite") as database:
        database.executescript((FILES / "studio.sql").read_text())
    database.close()
    return Library(root)


def test_every_former_option_is_in_the_files_and_has_a_present_name():
    text = (FILES / "studio.sql").read_text()
    assert not [name for name in RENAMED if f'"{name}": ' not in text]
    assert set(RENAMED.values()) <= Recipe.model_fields.keys()
    assert not RENAMED.keys() & Recipe.model_fields.keys()


def test_recipes_of_results_and_jobs_are_read(library: Library):
    result = library.concept("rex").result
    assert result
    assert stored_recipe(result.details["recipe"]) == TRAINED
    (job,) = library.jobs.page(10)
    assert (job.concept, stored_recipe(job.recipe)) == ("milo", QUEUED)


def test_a_trained_file_goes_on(library: Library, base: Base):
    result = library.concept("rex").result
    assert result
    start = replace(from_bytes(read_file(result.path), str(result.path)), base=base.decomposition.fingerprint)
    recipe = continued_recipe(start, {"steps": 1, "early_stopping_patience": None, "validation_steps": None})
    assert recipe.output_preservation_weight == 10
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ("navy", "orange")]
    trained = train_concept(base, "rex", "dog", pictures, recipe, start=start)
    assert trained.concept.metadata["recipe"]["unet_lr"] == 1e-3


def test_the_settings_in_a_picture_are_read():
    assert settings_of(FILES / "generated.png")[0] == GenerationRequest(
        prompt="a <rex>", method="gradient_fusion_preserving", seed=5, num_images=1, num_inference_steps=3,
        guidance_scale=2.5, negative_prompt="rain", strengths={"rex": 0.5},
    )  # fmt: skip


def test_generated_pictures_get_their_present_folder(tmp_path: Path):
    (tmp_path / "painted").mkdir()
    shutil.copy(FILES / "generated.png", tmp_path / "painted")
    adopt_former(tmp_path)
    adopt_former(tmp_path)
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["generated.png"]
    assert settings_of(tmp_path / FOLDER / "generated.png")[0].seed == 5
