from pathlib import Path
from typing import Any

import pytest

from concepts.errors import StudioError
from training.jobs.manifest import Manifest, read_manifest, runs_of

MANIFEST = """
base = "tiny"
priority = 2
[recipe]
steps = 9
[sweep]
adapter = ["lora", "spectral_additive"]
rank = [2, 4]
seed = [7]
[[concepts]]
pictures = "photos/*"
class = "dog"
[[concepts]]
name = "Rosa"
pictures = "vases/rosa"
class = "vase"
recipe = { steps = 5, threads = 2 }
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    for place in ("photos/rex", "photos/bruno", "vases/rosa"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "photos" / "notes.txt").write_text("no folder")
    return tmp_path


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate({"concepts": [{"pictures": "photos/*", "class": "dog"}], **changes})


def test_every_concept_is_trained_once_for_each_combination(folder):
    (folder / "batch.toml").write_text(MANIFEST)
    read = read_manifest(folder / "batch.toml")
    runs = runs_of(read, folder)
    assert (read.base, read.priority, read.max_attempts) == ("tiny", 2, 3)
    assert [run.name for run in runs] == [
        f"{name}-{adapter}-r{rank}"
        for name in ("bruno", "rex", "Rosa")
        for adapter in ("lora", "spectral_additive")
        for rank in (2, 4)
    ]
    first, last = runs[0], runs[-1]
    assert (first.pictures, first.class_word) == (folder / "photos" / "bruno", "dog")
    assert (first.recipe.adapter, first.recipe.rank, first.recipe.seed) == ("lora", 2, 7)
    assert [(run.recipe.steps, run.recipe.threads) for run in (first, last)] == [(9, 1), (5, 2)]


def test_without_a_sweep_a_concept_has_its_folders_name(folder):
    assert [run.name for run in runs_of(manifest(), folder)] == ["bruno", "rex"]


def test_an_absolute_glob(folder):
    given = manifest(concepts=[{"pictures": f"{folder}/vases/*", "class": "vase"}])
    assert [run.name for run in runs_of(given, Path("/"))] == ["rosa"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = 3", "Invalid base in .*: input should be a valid string"),
        ("colour = 'red'\n" + MANIFEST, "Invalid colour in .*: extra inputs are not permitted"),
        (MANIFEST.replace("seed = [7]", "seeds = [7]"), "Invalid sweep.seeds in"),
        (MANIFEST.replace("class =", "klass ="), "Invalid concepts.0.class in"),
        ("base =", "Give a TOML file"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(text: str, message: str, tmp_path):
    (tmp_path / "batch.toml").write_text(text)
    with pytest.raises(StudioError, match=message):
        read_manifest(tmp_path / "batch.toml")


def test_no_manifest_at_all(tmp_path):
    with pytest.raises(StudioError, match=r"The manifest .*none\.toml could not be read \(No such file"):
        read_manifest(tmp_path / "none.toml")
    (tmp_path / "none.toml").write_text("[concepts")
    with pytest.raises(StudioError, match="Give a TOML file"):
        read_manifest(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": {"steps": 0}}, "Invalid steps in the recipe of bruno: "),
        ({"recipe": {"colour": "red"}}, "Invalid colour in the recipe of bruno: "),
        ({"concepts": [{"pictures": "none", "class": "dog"}]}, 'pictures = "none" matches no folder'),
        ({"concepts": [{"pictures": "photos/*", "class": "dog", "name": "rex"}]}, 'Leave name = "rex" out'),
        ({"concepts": [{"pictures": "photos/rex", "class": "dog"}] * 2}, 'The name "rex" is used twice'),
        ({"concepts": [{"pictures": "photos/rex", "class": "dog", "name": "no name"}]}, "is not a valid name"),
    ],
)
def test_runs_that_cannot_be_are_refused(changes: dict[str, Any], message: str, folder):
    with pytest.raises(ValueError, match=message):
        runs_of(manifest(**changes), folder)
