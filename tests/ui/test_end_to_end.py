"""The main job on the bundled base, by the commands that a person types, at the fewest steps."""

from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open

from concepts.samples import FOLDER

QUICK = ["--steps", 3, "--set", "num_class_images=2", "--set", "batch_size=2"]


def test_two_concepts_from_pictures_to_scored_pictures_of_both(studio, tmp_path):
    def document(*arguments: Any) -> Any:
        outcome = studio(*arguments, "--library", tmp_path / "library", "--json")
        assert outcome.status == 0, outcome.err
        return outcome.document

    for name, word in (("milo", "cat"), ("gizmo", "robot")):
        added = document("concept", "add", name, FOLDER / name, "--class", word)
        assert (added["name"], added["class"], len(added["pictures"])) == (name, word, 5)
        trained = document("train", name, *QUICK)
        assert len(trained["losses"]) == 3
        result = trained["trained"]
        assert {"file", "preview", "base", "adapter", "rank", "parameters", "scores"} <= result.keys()
        assert (result["adapter"], result["rank"]) == ("spectral_additive", 8)
        assert {"backbone", "image_alignment", "text_alignment"} <= result["scores"].keys()
        assert Image.open(result["preview"]).width > 2 * 128
        with safe_open(result["file"], "pt") as file:
            assert '"name":"%s"' % name in str(file.metadata())  # noqa: UP031 (braces)
    assert trained["columns"][0]["first"] == 8

    prompt, out = "a photo of <milo> and <gizmo> on the grass", tmp_path / "out"
    quick = ["-o", out, "--num-inference-steps", 2, "--num-images", 2]
    halves = ["--region", "milo:0,0,1,0.5", "--region", "gizmo:0,64,128,128"]
    generated = document("generate", prompt, *quick, *halves)
    assert generated["prompt"] == prompt
    assert [Image.open(file).size for file in generated["pictures"]] == [(128, 128)] * 2
    assert sorted(map(str, out.iterdir())) == sorted(generated["pictures"])

    scores = document("score", out, "--prompt", prompt, "--reference", FOLDER / "milo")
    assert scores["backbone"] == "toybox-clip"
    assert -1 <= scores["image_alignment"] <= 1
    assert -1 <= scores["text_alignment"] <= 1
    assert [row["picture"] for row in scores["pictures"]] == sorted(generated["pictures"])
    assert {"image_alignment", "text_alignment"} <= scores["pictures"][0].keys()
    unreferenced = document("score", *generated["pictures"], "--prompt", "a cat")
    assert unreferenced["image_alignment"] is None

    file = tmp_path / "both.safetensors"
    merged = document("merge", "milo", "gizmo", "-o", file)
    assert Path(merged["file"]) == file
    assert (merged["method"], merged["rank"], merged["merged"]) == ("spectral", 32, ["milo", "gizmo"])
    again = document("generate", prompt, "--concept", file, *quick)
    assert len(again["pictures"]) == 2
    assert not set(again["pictures"]) & set(generated["pictures"])
