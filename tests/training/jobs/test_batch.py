"""Batches on the tiny base: what is queued, by whom it is trained, and what is left behind."""

import csv
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from concepts import Job, Library, LibraryError, Order
from concepts.errors import StudioError
from studio.models.base_model import Base, load_base
from training.jobs import executors
from training.jobs.batch import outcomes, rows_of, submit
from training.jobs.batch_report import write_batch
from training.jobs.executors import LocalExecutor, RayExecutor
from training.jobs.manifest import Manifest, Run, runs_of
from training.jobs.worker import Worker


def photos(folder: Path, names: list[str]) -> None:
    for index, name in enumerate(names):
        (folder / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64), (20 * index, 90, 200)).save(folder / "photos" / name / "0.png")


@pytest.fixture
def manifest(tmp_path, tiny_folder: Path) -> Manifest:
    """Two concepts, each by two methods, and how they are trained."""
    photos(tmp_path, ["bruno", "rex"])
    return made(tiny_folder, {"adapter": ("lora", "spectral_additive")})


def made(tiny_folder: Path, sweep: dict[str, Any]) -> Manifest:
    recipe = {"rank": 4, "steps": 2, "batch_size": 2, "num_class_images": 2}
    groups = [{"pictures": "photos/*", "class": "dog"}]
    return Manifest.model_validate({"base": str(tiny_folder), "recipe": recipe, "sweep": sweep, "concepts": groups})


def submitted(library: Library, base: Base, manifest: Manifest, folder: Path) -> tuple[list[Run], list[Job]]:
    runs = runs_of(manifest, folder)
    return runs, submit(library, base, manifest, runs, "label")


def test_a_batch_is_queued_once_and_what_failed_again(tmp_path, base, manifest):
    library = Library(tmp_path / "library")
    runs, jobs = submitted(library, base, manifest, tmp_path)
    names = ["bruno-lora", "bruno-spectral_additive", "rex-lora", "rex-spectral_additive"]
    assert [job.concept for job in jobs] == names
    assert [job.first_column for job in jobs] == [0, 0, 0, 4]
    assert library.jobs.counts(batch="label")["queued"] == 4
    assert submitted(library, base, manifest, tmp_path)[1] == []
    lease = library.jobs.lease("w")
    assert lease
    lease.fail("out of memory", again=False)
    library.jobs.cancel(jobs[1].id)
    again = submitted(library, base, manifest, tmp_path)[1]
    assert [(job.concept, job.first_column) for job in again] == [(names[0], 0), (names[1], 0)]
    assert [outcome.state for outcome in outcomes(library, runs)] == ["queued"] * 4


def test_a_name_that_is_taken_is_refused(tmp_path, base, manifest):
    library = Library(tmp_path / "library")
    library.add_concept("bruno-lora", "dog", [tmp_path / "photos" / "rex"])
    with pytest.raises(LibraryError, match='The library has a concept "bruno-lora" with other pictures'):
        submitted(library, base, manifest, tmp_path)
    assert library.jobs.page() == []


@pytest.mark.parametrize("beside", ["caption", "mask"])
def test_a_picture_whose_caption_or_mask_is_new_is_another_one(tmp_path, base, manifest, beside: str):
    library = Library(tmp_path / "library")
    folder = tmp_path / "photos" / "rex"
    Image.new("L", (64, 64), 128).save(folder / "0-mask.png")
    submitted(library, base, manifest, tmp_path)
    submitted(library, base, manifest, tmp_path)
    if beside == "caption":
        (folder / "0.txt").write_text("a dog on the grass")
    else:
        Image.new("L", (64, 64), 255).save(folder / "0-mask.png")
    with pytest.raises(LibraryError, match="with other pictures, captions or masks"):
        submitted(library, base, manifest, tmp_path)


def test_a_batch_from_order_to_report(tmp_path, base, manifest):
    library = Library(tmp_path / "library")
    runs, jobs = submitted(library, base, manifest, tmp_path)
    library.jobs.cancel(jobs[1].id)
    Worker(library).run(until_empty=True)
    assert [job.concept for job in submitted(library, base, manifest, tmp_path)[1]] == ["bruno-spectral_additive"]
    library.jobs.cancel(library.jobs.page(1)[0].id)
    found = outcomes(library, runs, details=True)
    files = write_batch(tmp_path / "out", "Two dogs", found)
    with Path(files["csv"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done", "cancelled", "done", "done"]
    result = library.concept("bruno-lora").result
    assert result
    assert rows[0]["file"] == str(result.path)
    assert float(rows[0]["image_alignment"]) == result.scores["image_alignment"]
    assert rows[1]["sha256"] == "" != rows[0]["sha256"]
    table = pq.read_table(files["parquet"]).to_pylist()
    assert table == rows_of(found)
    page = Path(files["html"]).read_text()
    assert "3 of 4 trainings are done" in page
    assert page.count("<img") == 4


@pytest.mark.slow
def test_local_workers_and_one_that_is_killed(tmp_path, base, manifest):
    library = Library(tmp_path / "library")
    runs, _ = submitted(library, base, manifest, tmp_path)
    killed: list[str] = []

    def kill_one() -> None:
        running = library.jobs.page(states=["running"])
        if running and not killed:
            killed.append(str(running[0].worker))
            os.kill(int(killed[0].partition("/")[0].rpartition(":")[2]), signal.SIGKILL)

    LocalExecutor(2, seconds=3)(library, kill_one)
    assert killed
    assert [outcome.state for outcome in outcomes(library, runs)] == ["done"] * 4


def test_workers_that_all_die_are_not_started_for_ever(tmp_path, monkeypatch):
    library = Library(tmp_path / "library")
    photos(tmp_path, ["rex"])
    library.add_concept("rex", "dog", [tmp_path / "photos" / "rex"])
    library.jobs.queue([Order("rex", "none", "abc", {})])
    monkeypatch.setattr(executors, "start_worker", lambda *_, **__: executors.subprocess.Popen(["false"]))
    with pytest.raises(StudioError, match="worker processes failed without any progress"):
        LocalExecutor(1)(library, lambda: None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_same_files_with_one_worker_two_and_ray(tmp_path, tiny_folder):
    """12 concepts. Needs the extra concept-studio[ray]."""
    pytest.importorskip("ray", reason="NOT RUN: Ray is not installed")
    photos(tmp_path, [f"dog{index}" for index in range(6)])
    manifest = made(tiny_folder, {"adapter": ("lora", "spectral_additive")})
    made_of = {}
    ray = RayExecutor(cpus=1, num_cpus=2, object_store_memory=100_000_000)
    for name, executor in (("one", LocalExecutor(1)), ("two", LocalExecutor(2)), ("ray", ray)):
        library = Library(tmp_path / name)
        runs, jobs = submitted(library, load_base(str(tiny_folder), device="cpu"), manifest, tmp_path)
        executor(library, lambda: None)
        made_of[name] = {row["concept"]: row["sha256"] for row in rows_of(outcomes(library, runs))}
        assert len(jobs) == len(made_of[name]) == 12
        assert all(made_of[name].values())
    assert made_of["one"] == made_of["two"] == made_of["ray"]
