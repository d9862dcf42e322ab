"""The verbs for other programs, through the page's own doors."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError, AuthenticationError
from PIL import Image

from concepts import Library
from concepts.samples import SAMPLES

GUIDE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "other-programs.md"


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    client = Client(address, analytics_enabled=False, verbose=False)
    yield client
    client.close()


def example() -> str:
    """The program in the guide, with a shorter training."""
    program = GUIDE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert program.count('"steps": 200') == 1
    return program.replace('"steps": 200', '"steps": 20')


@pytest.mark.slow
def test_the_example_of_the_guide_runs(serve_page: Callable, tiny_folder: Path, tmp_path: Path):
    (tmp_path / "photos").mkdir()
    shutil.copytree(SAMPLES["rex"].pictures[0].parent, tmp_path / "photos" / "rex")
    (tmp_path / "example.py").write_text(example(), encoding="utf-8")
    with serve_page(tmp_path / "library", "--api", "--base", str(tiny_folder)) as (_, address):
        done = subprocess.run([sys.executable, "example.py", address], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *_, scores, files = done.stdout.splitlines()
    assert "'backbone': 'toybox-clip'" in scores
    assert "rex.tokens.safetensors" in files
    result = Library(tmp_path / "library").concept("rex").result
    assert result
    assert (result.adapter, len(result.details["losses"])) == ("lora", 20)


@pytest.mark.usefixtures("trained")
def test_a_grid_and_the_list(client: Client):
    rows, grid = client.predict(
        "a <rex>", "strength", "0.5, 1", settings={"num_inference_steps": 1, "seed": 3}, api_name="/compare"
    )  # fmt: skip
    assert [row["across"] for row in rows] == ["0.5", "1"]
    with Image.open(grid) as picture:
        assert picture.width > 100
    (concept,) = (each for each in client.predict(api_name="/concepts") if each["name"] == "rex")
    assert concept["pictures"] == 5
    assert "/" not in json.dumps(concept)


@pytest.mark.usefixtures("trained")
def test_what_is_refused_is_a_sentence(client: Client, library: Library, tmp_path: Path):
    (tmp_path / "words.png").write_text("no picture")
    wrong = [
        ("/add_concept", ("odd name", "dog", []), "is not a valid name"),
        ("/add_concept", ("words", "cat", [handle_file(tmp_path / "words.png")]), "words.png is not a picture"),
        ("/train", ("nobody",), "nobody"),
        ("/train", ("rex", {"stepz": 3}), "stepz"),
        ("/generate", ("a <rex>", {"colour": "red"}), "Invalid colour: extra inputs"),
        ("/generate", ("a <rex>", {"num_images": 99}), "at most 16"),
        ("/export", ("rex", "zip"), "kohya, diffusers, peft"),
    ]
    before = [concept.name for concept in library.concepts()]
    for name, given, sentence in wrong:
        with pytest.raises(AppError, match=sentence):
            client.predict(*given, api_name=name)
    assert [concept.name for concept in library.concepts()] == before


@pytest.mark.usefixtures("trained")
def test_no_other_file_of_the_machine_is_read(client: Client, library: Library):
    stored = str(library.concept("rex").pictures[0])
    for path in (stored, "/etc/passwd", "../../etc/passwd", ""):
        with pytest.raises(AppError, match="only reads uploaded files"):
            client.predict([{"path": path}], "a dog", api_name="/score")
    with pytest.raises(AppError, match="accepts names of concepts in the library"):
        client.predict("a dog", {"concepts": ["/tmp/other.safetensors"]}, api_name="/generate")


def test_it_is_closed_without_the_option(empty: str):
    client = Client(empty, analytics_enabled=False, verbose=False)
    with pytest.raises(ValueError, match="concepts"):
        client.predict(api_name="/concepts")
    client.close()


@pytest.mark.slow
def test_it_is_closed_behind_the_login(serve_page: Callable, tmp_path: Path, tiny_folder: Path):
    login = ("ada", "correct horse")
    with serve_page(tmp_path / "library", "--api", "--base", str(tiny_folder), "--auth", ":".join(login)) as (
        _,
        address,
    ):
        with pytest.raises(AuthenticationError):
            Client(address, analytics_enabled=False, verbose=False)
        client = Client(address, auth=login, analytics_enabled=False, verbose=False)
        assert client.predict(api_name="/concepts") == []
        client.close()
