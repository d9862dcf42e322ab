from pathlib import Path

from concepts import Library

MANIFEST = """
base = {base}
[recipe]
adapter = "lora"
rank = 4
steps = 2
batch_size = 2
num_class_images = 2
[[concepts]]
name = "rex"
pictures = "pictures"
class = "dog"
"""


def test_a_batch_and_the_same_again(studio, tmp_path: Path, pictures, tiny_folder):
    (tmp_path / "dogs.toml").write_text(MANIFEST.format(base=repr(str(tiny_folder))))
    run = ("batch", tmp_path / "dogs.toml", "--library", tmp_path / "library", "--json")
    first = studio(*run)
    assert first.status == 0, first.err
    (row,) = first.document["results"]
    assert (row["concept"], row["state"], row["rank"], row["attempts"]) == ("rex", "done", 4, 1)
    assert sorted(path.name for path in (tmp_path / "dogs-results").iterdir()) == [
        "report.html", "results.csv", "results.parquet"
    ]  # fmt: skip
    assert studio(*run).document["results"] == [row]
    assert len(Library(tmp_path / "library").jobs.page()) == 1


def test_what_is_wrong_is_said_before_anything_is_queued(studio, tmp_path, pictures):
    (tmp_path / "dogs.toml").write_text(MANIFEST.format(base="'toybox'"))
    place = ("--library", tmp_path / "library")
    refused = studio("batch", tmp_path / "dogs.toml", "--executor", "cloud", *place)
    assert (refused.status, "Choose local or ray" in refused.err) == (2, True)
    (tmp_path / "dogs.toml").write_text(MANIFEST.format(base="'toybox'").replace("rank = 4", "rang = 4"))
    refused = studio("batch", tmp_path / "dogs.toml", *place)
    assert (refused.status, "Invalid rang in the recipe of rex" in refused.err) == (2, True)
    assert not (tmp_path / "library").exists()
