"""A training whose library is at a URL: on two machines, and to the same bytes as in a folder."""

from collections.abc import Callable

import pytest
from PIL import Image

from concepts import Lease, Library
from concepts.storage import entries, read_file
from studio.models.base_model import Base
from tests.remote import RemoteFileSystem
from training.config.recipe import Recipe
from training.engine.trainer import Progress
from training.jobs.library_training import order_of
from training.jobs.worker import Trainer, Worker

RECIPE = Recipe(rank=4, steps=5, batch_size=2, num_class_images=4, threads=1)


@pytest.fixture
def on_machine(monkeypatch, tmp_path, postgresql: str) -> Callable[[str], Library]:
    """A function that opens the library on a machine of this name."""
    monkeypatch.setattr(RemoteFileSystem, "store", {})
    monkeypatch.setattr(RemoteFileSystem, "pseudo_dirs", [""])

    def opened(name: str) -> Library:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return Library("remote://bucket/library", postgresql)

    return opened


def queued(library: Library, base: Base, pictures) -> Library:
    Image.new("RGB", (64, 64), "navy").save(pictures)
    library.add_concept("rex", "dog", [pictures])
    library.jobs.queue([order_of(base, "rex", RECIPE)])
    return library


def test_a_job_goes_on_at_another_machine_and_ends_in_the_same_bytes(on_machine, base: Base, tmp_path):
    here = queued(Library(tmp_path / "folder"), base, tmp_path / "one.png")
    Worker(here).run(once=True)
    first, done = queued(on_machine("first"), base, tmp_path / "one.png"), []

    def noting(library: Library) -> Callable[..., None]:
        train = Trainer(library)

        def noted(lease: Lease, on_progress: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
            train(
                lease, lambda progress: (progress.loss and done.append(progress.step), on_progress(progress))[1], stop
            )

        return noted

    Worker(first, noting(first), stop=lambda: len(done) == 3).run()
    kept = first.checkpoints(first.concept("rex"))
    assert [path.name[:13] for key in entries(kept) for path in entries(key)] == ["step-00000003"]
    second = on_machine("second")
    assert second.local != first.local
    Worker(second, noting(second)).run(once=True)
    assert done == [1, 2, 3, 4, 5]
    result, expected = second.concept("rex").result, here.concept("rex").result
    assert result is not None
    assert expected is not None
    assert read_file(result.path) == read_file(expected.path)
    assert not entries(kept)
