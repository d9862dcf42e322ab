"""The documentation: generated pages are current, what pages name exists, and what they say to run runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.generate import REFERENCE, pages, write
from docs.pages import LAYERS, ROOT
from studio.adapters import ADAPTERS
from training.config.recipe import Recipe
from ui.cli.main import app

README = ROOT / "README.md"
NAMES = ("first-concept", "two-concepts", "own-checkpoint")
TUTORIALS = tuple(ROOT / "docs" / "tutorials" / f"{name}.md" for name in NAMES)
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>.+?) -->\n+)?```bash\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`((?:concepts|studio|training|ui|tests|benchmarks|docs)/[\w/.-]+\.\w+)`")
REASONS = {"installs", "downloads", "needs a GPU", "needs a service", "needs a browser"}


def blocks(page: Path) -> list[tuple[str | None, str]]:
    """The shell blocks of a page, each with why it is not run, if it is not."""
    return [(found["reason"], found["text"]) for found in BLOCK.finditer(page.read_text("utf-8"))]


def commands() -> Iterator[tuple[Path, list[str]]]:
    """The words of every `studio` command in a shell block."""
    for page in PAGES:
        for _, text in blocks(page):
            for line in text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] == "studio":
                    yield page, words[1:]


def test_generated_pages_are_current():
    found = {file.relative_to(REFERENCE).as_posix(): file.read_text("utf-8") for file in REFERENCE.rglob("*.md")}
    wanted = pages()
    stale = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    assert stale == [], "run `python -m docs.generate`"


def test_pages_that_are_no_longer_generated_are_removed(tmp_path: Path):
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "gone.md").write_text("old")
    write({"recipe.md": "new\n", "api/studio.md": "new\n"}, tmp_path)
    assert sorted(tmp_path.rglob("*.md")) == [tmp_path / "api" / "studio.md", tmp_path / "recipe.md"]
    assert (tmp_path / "recipe.md").read_text() == "new\n"


def test_the_readme_is_short():
    assert len(README.read_bytes()) < 10_000


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text("utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_files_that_pages_name_exist():
    named = {(page.name, path) for page in PAGES for path in FILE.findall(page.read_text("utf-8"))}
    assert len(named) > 50
    assert sorted(each for each in named if not (ROOT / each[1]).exists() and "your_method" not in each[1]) == []


def test_commands_and_options_that_pages_name_exist():
    checked = 0
    for page, words in commands():
        command: Any = typer.main.get_command(app)
        known = {name for parameter in command.params for name in parameter.opts}
        while words and (word := words[0]) in getattr(command, "commands", {}):
            command, words = command.commands[word], words[1:]
        known |= {name for parameter in command.params for name in parameter.opts}
        options = {word for word in words if re.match(r"--?[a-z]", word)}
        assert options <= known, f"{page.name}: {words}"
        assert not hasattr(command, "commands") or "COMMAND" in words, f"{page.name}: {words}"
        checked += 1
    assert checked > 50


def test_recipe_options_that_pages_set_exist():
    own = {name for adapter in ADAPTERS.values() for name in adapter.Config.__dataclass_fields__}
    named = {name for page in PAGES for name in re.findall(r"--set ([a-z_]+)=", page.read_text("utf-8"))}
    assert len(named) > 8
    assert named <= {*Recipe.model_fields, *own}


def test_the_readme_counts_as_the_reference():
    table = (REFERENCE / "adapters.md").read_text("utf-8")
    reference = dict(re.findall(r"^\| \[`(\w+)`\]\S+ \| [\d,]+ \| ([\d,]+) \|", table, re.MULTILINE))
    ours = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", README.read_text("utf-8"), re.MULTILINE))
    assert list(ours) == [*ADAPTERS]
    assert ours == reference


def test_every_paper_that_the_code_cites_is_on_the_page_of_papers():
    source = "\n".join(file.read_text("utf-8") for layer in LAYERS for file in (ROOT / layer).rglob("*.py"))
    cited = set(re.findall(r"([A-Z]\w+)(?:\s+et\s+al\.| and [A-Z]\w+),\s+((?:19|20)\d\d)", source))
    page = (ROOT / "docs" / "papers.md").read_text("utf-8")
    assert len(cited) > 30
    assert sorted(each for each in cited if not re.search(rf"{each[0]}\b[^|;]*?, {each[1]}", page)) == []


def test_blocks_that_are_not_run_say_why():
    reasons = {reason for page in (README, *TUTORIALS) for reason, _ in blocks(page) if reason}
    assert reasons
    assert reasons <= REASONS


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the commands run as in a clone, with a home of its own and no network for the hub."""
    shutil.copytree(ROOT / "concepts" / "samples", tmp_path / "concepts" / "samples")
    programs = tmp_path / "bin"
    programs.mkdir()
    start = "from ui.cli.main import main; main()"
    (programs / "studio").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -c "{start}" "$@"\n')
    (programs / "studio").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STUDIO_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("sequence", "pictures"), [((README,), 4), (TUTORIALS, 9)], ids=["readme", "tutorials"])
def test_shell_blocks_run(clone: Path, sequence: tuple[Path, ...], pictures: int):
    texts = [text for page in sequence for reason, text in blocks(page) if not reason]
    assert texts
    for text in texts:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=clone, capture_output=True, text=True)
        assert done.returncode == 0, text + done.stderr
    generated = [file for file in clone.glob("*/*.png") if file.parent.name != "samples"]
    assert len(generated) == pictures
