import json
from pathlib import Path

import pytest

from concepts.errors import StudioError
from ui.cli.options import default_work_folder, progress_bar, report
from ui.services.parsing import pairs, parsed, regions_from, strengths_from


def test_pairs_are_split_at_the_first_sign():
    assert pairs(["a=1", "b=x=y", "c="], "--set") == {"a": "1", "b": "x=y", "c": ""}
    assert pairs([], "--set") == {}


@pytest.mark.parametrize("value", ["batch", "=3", ""])
def test_what_is_no_pair_is_refused(value: str):
    with pytest.raises(StudioError, match=rf"--set '{value}' is invalid\. Give NAME=VALUE\."):
        pairs(["good=1", value], "--set")


def test_strengths_are_numbers():
    assert strengths_from(["rex=0.8", "milo=-1", "tom=2e-1"]) == {"rex": 0.8, "milo": -1.0, "tom": 0.2}


def test_strengths_are_numbers_by_part():
    given = ["rex=unet:0.8, text_encoder:0.5,unet.up_blocks.1:0", "milo=1"]
    assert strengths_from(given) == {
        "rex": {"unet": 0.8, "text_encoder": 0.5, "unet.up_blocks.1": 0.0}, "milo": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        "rex=unet:",
        "rex=:0.5",
        "rex=unet:0.5,0.2",
        "rex=unet:nan",
        "rex",
        "rex=",
        "rex=much",
        "rex=nan",
        "rex=inf",
        "rex=1=2",
        "rex=0,8",
    ],
)
def test_other_strengths_are_refused(value: str):
    with pytest.raises(StudioError, match=r"--strength .*\. Give NAME="):
        strengths_from([value])


def test_regions_are_boxes_by_name():
    boxes, auto = regions_from(["rex:0,0,1,0.5", "my-cat_2: 0, .5, 1, 1", "tom:0,64,128,128"])
    assert boxes == {"rex": (0, 0, 1, 0.5), "my-cat_2": (0, 0.5, 1, 1), "tom": (0, 64, 128, 128)}
    assert not auto


def test_regions_may_be_masks_or_found():
    assert regions_from(["auto", "rex:auto", "tom:some folder/tom.PNG"]) == (
        {"rex": "auto", "tom": "some folder/tom.PNG"},
        True,
    )


@pytest.mark.parametrize(
    "value",
    [
        "rex", "rex:", "rex:0,0,1", "rex:0,0,1,1,1", ":0,0,1,1", "rex:a,b,c,d", ":auto", ":mask.png", "rex:mask.txt",
        "rex:0,0,-1,1", "rex:.,0,1,1",
    ],
)  # fmt: skip
def test_other_regions_are_refused(value: str):
    with pytest.raises(StudioError, match="Give NAME:top,left,bottom,right"):
        regions_from([value])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("red", "red"),
        ("1e-3", 1e-3),
        ("", ""),
        ("True", "True"),
    ],
)
def test_values_are_json_or_else_text(text: str, value):
    result = parsed(text)
    assert result == value
    assert type(result) is type(value)


def test_a_report_is_one_document_or_whatever_a_person_is_shown(capsys):
    shown = []
    report({"file": Path("a/b"), "scores": [1.5]}, True, lambda: shown.append(1))
    assert json.loads(capsys.readouterr().out) == {"file": "a/b", "scores": [1.5]}
    report({}, False, lambda: shown.append(2))
    assert capsys.readouterr().out == ""
    assert shown == [2]


def test_progress_goes_to_stderr(capsys):
    with progress_bar() as bar:
        bar.advance(bar.add_task("generating", total=1, note="loss 0.5"))
    out, err = capsys.readouterr()
    assert out == ""
    assert "generating" in err
    assert "1/1" in err


def test_checkpoints_lie_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_work_folder() == tmp_path / "concept-studio" / "toybox"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_work_folder() == tmp_path / ".cache" / "concept-studio" / "toybox"
