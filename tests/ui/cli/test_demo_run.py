from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from concepts import Library, LibraryError, read_picture
from concepts.errors import StudioError
from concepts.samples import SAMPLES
from training.config.recipe import Recipe
from training.reporting.image_grid import GAP
from ui.cli import demo_run, demo_training
from ui.cli.demo_pictures import SIDE
from ui.cli.options import progress_bar
from ui.services.workflow import Workflow

ALIGNMENTS = {"image_alignment", "text_alignment", "base_image_alignment", "base_text_alignment", "identity_accuracy"}


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(demo_run, "RECIPE", Recipe(rank=4, steps=2, batch_size=2, num_class_images=2))
    monkeypatch.setattr(demo_run, "PROMPTS", demo_run.PROMPTS[:1])
    monkeypatch.setattr(demo_run, "EACH", 1)
    monkeypatch.setattr(demo_run, "BOTH", 2)


def test_the_demo_generates_scores_and_reports(small, studio, tiny_folder: Path, tmp_path):
    out = tmp_path / "demo"
    outcome = studio("demo", "--output", out, "--base", tiny_folder, "--json")
    assert outcome.status == 0, outcome.err
    document = outcome.document
    for part in ("concepts", "together"):
        assert list(document[part]) == list(demo_run.NAMES)
        for scores in document[part].values():
            assert scores.keys() >= {*ALIGNMENTS, "seconds"}
            assert all(-1 <= scores[key] <= 1 for key in ALIGNMENTS)
            assert scores["seconds"] > 0
    report = Path(document["report"])
    assert report.parent == out.resolve()
    html = report.read_text()
    for name in demo_run.NAMES:
        assert SAMPLES[name].description in html
        assert Image.open(out / f"{name}.png").width > 16
    assert document["backbone"] in html
    assert Image.open(out / "together.png").width > 16
    assert has_own_pictures(Image.open(out / "demo.png"), demo_run.NAMES)
    library = Library(out / "library")
    assert [concept.name for concept in library.concepts()] == list(demo_run.NAMES)
    workflow = Workflow(library.root, str(tiny_folder))
    for name in demo_run.NAMES:
        demo_run._add(workflow, name)  # a second run finds them
    assert len(library.concepts()) == 2


def has_own_pictures(sheet: Image.Image, names: Sequence[str]) -> bool:
    """Whether four own pictures of each concept are found in the sheet, as they are."""
    tiles = {
        sheet.crop((x, y, x + SIDE, y + SIDE)).tobytes()
        for x in range(GAP, sheet.width - SIDE, SIDE + GAP)
        for y in range(sheet.height - SIDE)
    }
    own = [read_picture(path, path.name).resize((SIDE, SIDE)) for name in names for path in SAMPLES[name].pictures[:4]]
    return all(picture.tobytes() in tiles for picture in own)


def test_a_demo_that_was_interrupted_is_resumed(small, tiny_folder: Path, tmp_path, monkeypatch):
    workflow = Workflow(tmp_path / "library", str(tiny_folder))
    for name in demo_run.NAMES:
        demo_run._add(workflow, name)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with progress_bar() as bar:
        with monkeypatch.context() as patch:
            patch.setattr(demo_training.LocalExecutor, "__call__", interrupted)
            with pytest.raises(KeyboardInterrupt):
                demo_training.train_side_by_side(workflow, demo_run.NAMES, demo_run.RECIPE, bar)
        waiting = {job.id for job in workflow.library.jobs.page(states=["queued"])}
        trained = demo_training.train_side_by_side(workflow, demo_run.NAMES, demo_run.RECIPE, bar)
    assert len(waiting) == 2
    assert {job.id for job in workflow.library.jobs.page(states=["done"])} == waiting
    assert all(len(training.losses) == 2 and training.seconds > 0 for training in trained.values())


def test_other_jobs_of_the_library_are_left_in_its_queue(small, tiny_folder: Path, tmp_path):
    workflow = Workflow(tmp_path / "library", str(tiny_folder))
    for name in (*demo_run.NAMES, "rex"):
        demo_run._add(workflow, name)
    own = workflow.queue(["rex"], demo_run.RECIPE)[0]
    with progress_bar() as bar:
        demo_training.train_side_by_side(workflow, demo_run.NAMES, demo_run.RECIPE, bar)
    assert workflow.library.jobs.job(own.id).state in ("queued", "running")


def test_a_training_that_fails_ends_the_demo(small, tiny_folder: Path, tmp_path):
    workflow = Workflow(tmp_path / "library", str(tiny_folder))
    demo_run._add(workflow, demo_run.NAMES[0])
    broken = demo_run.RECIPE.model_copy(update={"unet_lr": 1e30})
    with progress_bar() as bar, pytest.raises(StudioError, match=f"The training of {demo_run.NAMES[0]} is failed"):
        demo_training.train_side_by_side(workflow, demo_run.NAMES[:1], broken, bar)


def test_the_demo_leaves_a_strangers_concept_alone(small, tiny_folder: Path, tmp_path, state):
    library = Library(tmp_path / "library")
    library.add_concept(demo_run.NAMES[0], "dog", SAMPLES["rex"].pictures)
    before = state(library)
    with pytest.raises(LibraryError, match="Choose another --library"):
        demo_run.run_demo(tmp_path / "out", library.root, str(tiny_folder))
    assert state(library) == before


def test_a_box_is_cut_out():
    picture = Image.new("RGB", (16, 16), "red")
    picture.paste("blue", (8, 0, 16, 16))
    left, right = (demo_run._cut([picture], box)[0] for box in demo_run.BOXES)
    assert left.size == right.size == (8, 16)
    assert left.getcolors() == [(128, (255, 0, 0))]
    assert right.getcolors() == [(128, (0, 0, 255))]
