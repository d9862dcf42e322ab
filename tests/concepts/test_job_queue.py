"""The queue, on SQLite and on a real PostgreSQL."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from concepts import Columns, Job, LeaseLostError, Library, LibraryError, Order
from concepts.job import UNFINISHED


@pytest.fixture
def library(tmp_path, pictures: Path, database: str | None) -> Library:
    """A library of the concepts a, b, c and d."""
    library = Library(tmp_path / "library", database)
    for name in "abcd":
        library.add_concept(name, "dog", [pictures])
    return library


def order(name: str, **options: Any) -> Order:
    given = {"base": "tiny", "fingerprint": "abc", "recipe": {"steps": 5}, "columns": Columns(4, 12), **options}
    return Order(name, **given)


def queue(library: Library, names: str, **options: Any) -> list[Job]:
    return library.jobs.queue([order(name, **options) for name in names])


def held(library: Library, name: str) -> list[int]:
    return [block.start for block in library.concept(name).columns]


def later(monkeypatch, **by: float) -> None:
    """Advances the database's clock."""
    from concepts import job_leases, job_queue
    from concepts.database import now

    for module in (job_queue, job_leases):
        monkeypatch.setattr(module, "now", lambda session: now(session) + timedelta(**by))


def test_counting_a_long_queue_stops_at_the_limit(library):
    queue(library, "abc")
    assert [library.jobs.unfinished(most) for most in (1, 2, 9)] == [1, 2, 3]
    assert library.jobs.last_heartbeat() is None
    lease = library.jobs.lease("w", seconds=60)
    assert lease is not None
    assert (library.jobs.unfinished(9), library.jobs.unfinished(9, ["queued"])) == (3, 2)
    first = library.jobs.last_heartbeat()
    lease.renew()
    second = library.jobs.last_heartbeat()
    assert first is not None
    assert second is not None
    assert first < second
    lease.fail("it did not work", again=False)
    assert (library.jobs.unfinished(9), library.jobs.last_heartbeat()) == (2, None)


def test_columns_are_allocated_in_the_order_of_the_orders(library):
    jobs = queue(library, "cab")
    assert [(job.concept, job.first_column) for job in jobs] == [("c", 0), ("a", 4), ("b", 8)]
    assert [held(library, name) for name in "abcd"] == [[4], [8], [0], []]
    assert all(job.state == "queued" and job.steps == 5 and job.attempts == 0 for job in jobs)


def test_jobs_are_leased_in_order_and_the_urgent_first(library):
    queue(library, "dab")
    queue(library, "c", priority=1)
    leased = [library.jobs.lease("w") for _ in range(5)]
    assert [lease and lease.job.concept for lease in leased] == ["c", "d", "a", "b", None]


def test_all_orders_are_queued_or_none(library):
    with pytest.raises(LibraryError, match='There is no concept "rex"'):
        library.jobs.queue([order("a"), order("rex")])
    with pytest.raises(LibraryError, match=r'"a" is already in the queue. Wait for it, or run studio jobs cancel'):
        queue(library, "baa")
    assert library.jobs.page() == []
    assert held(library, "a") == held(library, "b") == []


def test_a_finished_job_has_its_result_and_the_concept_can_be_queued_again(library, details):
    (job,) = queue(library, "a")
    lease = library.jobs.lease("w")
    lease.report(3, 5, [0.5, 0.4, 0.25])
    leased = library.jobs.job(job.id[:8])
    assert (leased.state, leased.step, leased.loss, leased.attempts) == ("running", 3, 0.25, 1)
    assert leased.seconds_per_step is None
    time.sleep(0.02)
    lease.report(4, 5, [0.5, 0.4, 0.25, 0.2])
    assert 0.02 <= library.jobs.job(job.id).seconds_per_step < 60
    lease.report(3, 5, [0.5, 0.4, 0.25])
    assert library.jobs.losses(job.id) == [0.5, 0.4, 0.25]
    library.store_result("a", b"data", details, lease=lease)
    done = library.jobs.job(job.id)
    assert (done.state, done.worker, done.error) == ("done", None, None)
    assert done.created <= done.started <= done.ended
    assert library.concept("a").result.path.read_bytes() == b"data"
    assert library.jobs.counts() == {"queued": 0, "running": 0, "done": 1, "failed": 0, "cancelled": 0}
    with pytest.raises(LibraryError, match="is done and cannot be cancelled"):
        library.jobs.cancel(job.id)
    assert queue(library, "a")[0].first_column == 0


def test_a_worker_whose_lease_expires_loses_its_job(library, details, monkeypatch):
    queue(library, "ab")
    first = library.jobs.lease("w", seconds=60)
    with monkeypatch.context() as patched:
        later(patched, seconds=50)
        first.renew()
        later(patched, seconds=100)
        assert library.jobs.lease("v").job.concept == "b"
        later(patched, seconds=200)
        second = library.jobs.lease("w", seconds=1e6)
    assert (second.job.id, second.job.attempts) == (first.job.id, 2)
    assert second.alive()
    assert not first.alive()
    for late in (first.renew, first.return_to_queue, lambda: first.report(1, 5, [1.0]), lambda: first.fail("late")):
        with pytest.raises(LeaseLostError, match="it was cancelled, or another worker took it over"):
            late()
    with pytest.raises(LeaseLostError):
        library.store_result("a", b"late", details, lease=first)
    assert library.concept("a").result is None
    library.store_result("a", b"data", details, lease=second)
    assert library.jobs.job(first.job.id).state == "done"


def test_a_job_fails_after_the_maximum_number_of_attempts(library):
    queue(library, "a", max_attempts=2)
    for attempt in (1, 2):
        lease = library.jobs.lease("w")
        assert lease.job.attempts == attempt
        lease.fail("out of memory")
    assert library.jobs.lease("w") is None
    job = library.jobs.page()[0]
    assert (job.state, job.error) == ("failed", "out of memory")
    again = library.jobs.retry(job.id)
    assert (again.state, again.attempts, again.error, again.first_column) == ("queued", 0, None, 0)
    library.jobs.lease("w").fail("no such adapter", again=False)
    assert library.jobs.job(job.id).state == "failed"


def test_a_job_whose_workers_die_is_failed_in_the_end(library, monkeypatch):
    queue(library, "a", max_attempts=2)
    for days in (0, 1):
        later(monkeypatch, days=days)
        assert library.jobs.lease("w")
    later(monkeypatch, days=2)
    assert library.jobs.lease("w") is None
    assert library.jobs.page()[0].error.startswith("Its worker died 2 times: look for the reason")


def test_a_job_that_is_returned_to_the_queue_counts_no_attempt(library):
    (job,) = queue(library, "a")
    for _ in range(5):
        library.jobs.lease("w").return_to_queue()
    assert library.jobs.job(job.id).attempts == 0
    assert library.jobs.lease("w").job.attempts == 1


def test_a_cancelled_job_stops_its_worker_and_releases_its_columns(library, details):
    library.allocate_columns("a", "abc", 2, 12)
    library.store_result("a", b"before", details)
    first, second = queue(library, "ab")
    lease = library.jobs.lease("w")
    assert library.jobs.cancel(first.id).state == "cancelled"
    assert not lease.alive()
    with pytest.raises(LeaseLostError):
        library.store_result("a", b"late", details, lease=lease)
    assert [(c.start, c.width) for c in library.concept("a").columns] == [(0, 2)]
    assert library.jobs.cancel(second.id[:12]).ended is not None
    assert held(library, "b") == []
    again = library.jobs.retry(first.id)
    assert (again.state, again.first_column) == ("queued", 0)
    assert [(c.start, c.width) for c in library.concept("a").columns] == [(0, 4)]


def test_what_has_the_wrong_state_cannot_be_retried(library):
    (job,) = queue(library, "a")
    with pytest.raises(LibraryError, match=r'The training of "a" is queued\. Only a failed or cancelled one'):
        library.jobs.retry(job.id)
    library.jobs.cancel(job.id)
    queue(library, "a")
    with pytest.raises(LibraryError, match='"a" is already in the queue'):
        library.jobs.retry(job.id)


def test_removing_a_concept_takes_it_off_the_queue(library):
    first, second = queue(library, "ab")
    library.remove_concept("a", permanent=False)
    library.remove_concept("b")
    assert [job.id for job in library.jobs.page()] == [first.id]
    assert library.jobs.job(first.id).state == "cancelled"
    assert library.jobs.lease("w") is None
    with pytest.raises(LibraryError, match="No job begins with"):
        library.jobs.job(second.id)


def test_pages_give_every_job_once_the_newest_first(library):
    queue(library, "abcd")
    library.jobs.lease("w")
    pages = [library.jobs.page(3), library.jobs.page(3, after=library.jobs.page(3)[-1].id)]
    assert ["".join(job.concept for job in page) for page in pages] == ["dcb", "a"]
    assert [job.concept for job in library.jobs.page(states=["running"])] == ["a"]
    assert [job.concept for job in library.jobs.page(2, states=UNFINISHED)] == ["d", "c"]
    assert library.jobs.page(owner="somebody else") == library.jobs.page(batch="none") == []


@pytest.mark.parametrize("identifier", ["", "zz"])
def test_an_identifier_that_no_job_has(identifier, library):
    queue(library, "a")
    with pytest.raises(LibraryError, match=f'No job begins with "{identifier}"' if identifier else "[Jj]obs? begin"):
        library.jobs.job(identifier)


def at_once(work: Callable[[], Any], count: int) -> list[Any]:
    """The results of `work` in each of several threads."""
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_no_two_workers_get_the_same_job(tmp_path, pictures, database):
    library = Library(tmp_path / "library", database)
    names = [f"c{index}" for index in range(12)]
    for name in names:
        library.add_concept(name, "dog", [pictures])
    library.jobs.queue([order(name) for name in names])

    def claim_next_job() -> list[str]:
        own = Library(library.root, database)
        return [lease.job.concept for lease in iter(lambda: own.jobs.lease("w"), None)]

    assert sorted(name for taken in at_once(claim_next_job, 4) for name in taken) == sorted(names)
