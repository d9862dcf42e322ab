import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from concepts.errors import StudioError
from training.config.recipe import Recipe
from training.engine.trainer import Progress, TrainingStopped
from training.jobs import library_training
from training.jobs.variants import same_pictures, trainings_of
from ui.services import workflow as module
from ui.services.workflow import Workflow, summary

SMALL = Recipe(rank=4, steps=2, batch_size=4, num_class_images=2)


def test_a_trained_concept_is_kept_with_scores_and_previews(workflow: Workflow):
    told = []
    trained = workflow.train("IDLE", SMALL, told.append)
    concept = workflow.library.concept("idle")
    assert concept.result == trained.result
    assert concept.columns[0].width == trained.result.rank == 4
    assert concept.columns[0].start == 8  # after rex's and Milo's
    assert trained.result.scores["backbone"] == "toybox-clip"
    assert -1 <= trained.result.scores["image_alignment"] <= 1
    assert trained.result.details["losses"] == trained.losses
    assert len(trained.previews) == module.PREVIEWS
    assert trained.result.preview is not None
    stored = workflow.trained("idle")
    numbers = sum(tensor.numel() for state in stored.adapters.values() for tensor in state.values())
    assert numbers == trained.result.parameters
    assert stored.metadata["scores"] == trained.result.scores
    assert stored.config["first_column"] == 8
    assert told[-1].step == 2


def test_training_again_takes_the_place_of_the_result_before(workflow: Workflow):
    first = workflow.library.concept("rex")
    workflow.train("rex", replace_recipe(seed=3))
    again = workflow.library.concept("rex")
    assert first.result
    assert again.result
    assert again.columns == first.columns
    assert not first.result.path.exists()
    assert again.result.path.exists()


def replace_recipe(**options: Any) -> Recipe:
    return Recipe(**{**SMALL.model_dump(), **options})


@pytest.mark.parametrize(
    "options", [{"rank": 33}, {"adapter": "magic"}, {"options": {"colour": 1}}, {"adapter": "lora", "rank": 40}]
)
def test_a_recipe_that_does_not_fit_changes_nothing(workflow: Workflow, state, options: dict[str, Any]):
    before = state(workflow.library)
    with pytest.raises(StudioError):
        workflow.train("idle", replace_recipe(**options))
    assert state(workflow.library) == before


@pytest.mark.parametrize("name", ["idle", "rex"])
@pytest.mark.parametrize("failure", [StudioError("The loss is not a number."), KeyboardInterrupt()])
def test_a_training_that_fails_leaves_the_columns_as_they_were(
    workflow: Workflow, state, monkeypatch, name: str, failure: BaseException
):
    before = state(workflow.library)
    held = []

    def fail(*_: Any, **__: Any) -> None:
        held.append(workflow.library.concept(name).columns[0].width)
        raise failure

    monkeypatch.setattr(library_training, "train_concept", fail)
    with pytest.raises(type(failure)):
        workflow.train(name, replace_recipe(rank=3))
    assert held == [3]
    assert state(workflow.library) == before


def test_scores_carry_the_backbones_name(workflow: Workflow):
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    with_references = workflow.score(pictures, "a dog", pictures[:1])
    without = workflow.score(pictures, "a dog")
    assert with_references.backbone == without.backbone == "toybox-clip"
    assert with_references.image
    assert with_references.image[0] == pytest.approx(1)
    assert with_references.image[1] < 0.999
    assert without.image is None
    assert summary(without)["image_alignment"] is None
    assert summary(with_references) == {
        "backbone": "toybox-clip",
        "image_alignment": pytest.approx(sum(with_references.image) / 2),
        "text_alignment": pytest.approx(sum(with_references.text) / 2),
    }
    json.dumps(summary(with_references))


def test_columns_can_be_asked_for(workflow: Workflow):
    workflow.train("idle", SMALL, column=20)
    assert workflow.library.concept("idle").columns[0].start == 20
    assert workflow.trained("idle").config["first_column"] == 20
    workflow.train("lora", replace_recipe(adapter="orthogonal"))
    assert workflow.library.concept("lora").columns[0].space == "rows"
    assert workflow.trained("lora").config["first_column"] == 0


@pytest.mark.parametrize("columns", ["bottom", "random_basis"])
def test_other_columns_are_allocated_in_a_space_of_their_own(workflow: Workflow, columns: str):
    workflow.train("idle", replace_recipe(options={"columns": columns}))
    (block,) = workflow.library.concept("idle").columns
    assert (block.space, block.start) == ({"bottom": "bottom_columns"}.get(columns, columns), 0)
    assert workflow.trained("idle").config["columns"] == columns
    assert workflow.claim("lora", workflow.trained("idle")).space == block.space  # pyright: ignore[reportOptionalMemberAccess]


def test_sampled_and_given_columns_are_not_allocated(workflow: Workflow):
    workflow.train("idle", replace_recipe(options={"columns": "sampled"}))
    assert workflow.library.concept("idle").columns == ()
    config = workflow.trained("idle").config
    assert (len(config["indices"]), config["sampled_from"]) == (4, workflow.base.decomposition.capacity)
    workflow.train("idle", replace_recipe(options={"indices": [9, 3, 30, 1]}))
    assert workflow.trained("idle").config["indices"] == [9, 3, 30, 1]
    assert workflow.library.concept("idle").columns == ()


def test_a_stopped_training_keeps_its_columns_and_goes_on(workflow: Workflow, state):
    before = state(workflow.library)
    steps: list[int] = []

    def count(progress: Progress) -> None:
        steps.extend([progress.step] if progress.loss is not None else [])

    with pytest.raises(TrainingStopped):
        workflow.train("idle", replace_recipe(steps=4), count, column=8, stop=lambda: len(steps) == 2)
    (block,) = workflow.library.concept("idle").columns
    assert block.start == 8
    folder = workflow.library.checkpoints(workflow.library.concept("idle"))
    assert list(folder.glob("*/step-*"))
    trained = workflow.train("idle", replace_recipe(steps=4), count)
    assert steps == [1, 2, 3, 4]
    assert workflow.library.concept("idle").columns == (block,)
    assert not folder.exists()
    assert len(trained.losses) == 4
    assert state(workflow.library) != before


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"NOT RUN, since only root can mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_fills_up_while_a_checkpoint_is_written(workflow: Workflow, state, small_disk: Path):
    shutil.copytree(workflow.library.local, small_disk / "library")
    full = Workflow(small_disk / "library", workflow._base)
    full.base.decomposition.columns(next(iter(full.base.sites)))
    before = state(full.library)[1]

    def fill(progress: Progress) -> None:
        if progress.loss is not None:
            with suppress(OSError), (small_disk / "other").open("ab") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()

    with pytest.raises(StudioError, match=r"checkpoint at step 3 could not be written .*No space left on device"):
        full.train("idle", replace_recipe(steps=3), fill)
    (small_disk / "other").unlink()
    files = state(full.library)[1]
    assert {name: data for name, data in files.items() if not name.startswith(("priors/", "runs/"))} == before
    for concept in full.library.concepts():
        assert concept.result is None or full.trained(concept.name)
    assert full.train("idle", replace_recipe(steps=3)).result.path.exists()


def test_what_a_training_tells_is_kept(workflow: Workflow):
    recipe = replace_recipe(steps=4, validation_steps=2, num_validation_images=2)
    result = workflow.train("idle", recipe).result
    details = result.details
    assert len(details["losses"]) == 4
    assert {part: len(rates) for part, rates in details["rates"].items()} == {"unet": 4, "text_encoder": 4, "token": 4}
    assert [step for step, _ in details["alignments"]] == [2, 4]
    assert details["trained"] == result.parameters + 32
    assert details["changed"] > 0
    folder = workflow.library.runs(workflow.library.concept("idle"))
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(details["losses"])
    assert [event.value for event in events.Scalars("rate/unet")] == pytest.approx(details["rates"]["unet"])
    assert [event.value for event in events.Scalars("image alignment")] == pytest.approx(
        [value for _, value in details["alignments"]]
    )
    assert len(events.Images("previews")) == 2
    workflow.train("idle", replace_recipe(steps=2))
    assert [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("loss")] == [1, 2]
    workflow.library.remove_concept("idle")
    assert not folder.exists()


def test_variants_are_queued_as_concepts_of_their_own(workflow: Workflow):
    trainings = trainings_of("rex", SMALL, ["svdiff"], [2])
    jobs = workflow.queue_trainings(trainings)
    assert [job.concept for job in jobs] == ["rex", "rex-r2", "rex-svdiff"]
    assert [job.recipe["rank"] for job in jobs] == [4, 2, None]
    assert same_pictures(workflow.library.concept("rex-r2"), workflow.library.concept("rex"))


def test_variants_that_cannot_be_queued_are_not_added(workflow: Workflow):
    workflow.queue(["rex"], SMALL)
    for adapters, ranks, sentence in ([["svdiff"], [], "already in the queue"], [[], [1000], "rank"]):
        source = "rex" if adapters else "Milo"
        with pytest.raises(StudioError, match=sentence):
            workflow.queue_trainings(trainings_of(source, SMALL, adapters, ranks))
    assert [concept.name for concept in workflow.library.concepts()] == ["rex", "Milo", "lora", "idle"]
