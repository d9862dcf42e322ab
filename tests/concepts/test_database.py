import multiprocessing
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from PIL import Image

from concepts import ColumnBlock, Library, LibraryError
from concepts.database import open_database, sqlite_url
from concepts.tables import Record

# One server imports what is slow to import, once, and forks the processes from there
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pytest", "alembic.autogenerate", "concepts"])


def in_processes(work: Callable, *arguments_of_each) -> list:
    """What `work` puts on its queue in each of several processes that begin together."""
    queue, start = processes.Queue(), processes.Barrier(len(arguments_of_each))
    workers = [processes.Process(target=work, args=(queue, start, *given)) for given in arguments_of_each]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    return answers


def open_new(queue, start, root):
    found = []
    for attempt in range(5):
        start.wait()
        try:
            found.append(Library(root / str(attempt)).concepts())
        except Exception as error:
            found.append(error)
    queue.put(found)


def allocate_each(queue, start, root, names):
    library = Library(root)
    start.wait()
    queue.put([library.allocate_columns(name, "abc", 4, 4 * 24) for name in names])


def filled(root: Path, names: list[str]) -> Library:
    library = Library(root)
    Image.new("RGB", (64, 64)).save(root / "one.png")
    for name in names:
        library.add_concept(name, "dog", [root / "one.png"])
    return library


def test_several_processes_open_a_new_library_at_once(tmp_path):
    assert in_processes(open_new, *[(tmp_path,)] * 4) == [[[]] * 5] * 4


def test_several_threads_open_new_libraries_at_once(tmp_path):
    failures = []

    def work(index):
        try:
            Library(tmp_path / str(index % 4)).concepts()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_processes_that_ask_at_once_get_distinct_columns(tmp_path):
    names = [f"c{index}" for index in range(24)]
    library = filled(tmp_path, names)
    answers = in_processes(allocate_each, *[(tmp_path, names[i::4]) for i in range(4)])
    blocks = [block for answer in answers for block in answer]
    assert sorted(block.start for block in blocks) == list(range(0, 96, 4))
    assert not any(block.shared_with for block in blocks)
    assert sorted(c.columns[0].start for c in library.concepts()) == list(range(0, 96, 4))


@pytest.mark.parametrize("share_the_library", [True, False])
def test_threads_that_ask_at_once_get_distinct_columns(share_the_library, tmp_path):
    names = [f"c{index}" for index in range(24)]
    library = filled(tmp_path, names)
    blocks: list[ColumnBlock] = []

    def work(mine):
        own = library if share_the_library else Library(tmp_path)
        blocks.extend(own.allocate_columns(name, "abc", 4, 4 * 24) for name in mine)

    threads = [threading.Thread(target=work, args=(names[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(block.start for block in blocks) == list(range(0, 96, 4))


def test_readers_go_on_while_one_writes(tmp_path):
    library = filled(tmp_path, ["rex"])
    with library._database.writing() as session:
        session.connection()
        assert [concept.name for concept in library.concepts()] == ["rex"]


def test_pragmas(tmp_path):
    engine = open_database(sqlite_url(tmp_path / "studio.sqlite"))
    with engine.connect() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert values == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 60_000}


def test_the_migrations_make_the_tables_of_the_records(tmp_path):
    engine = open_database(sqlite_url(tmp_path / "studio.sqlite"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Record.metadata) == []
    engine.dispose()


def test_a_library_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    filled(tmp_path, ["rex"])
    with sqlite3.connect(tmp_path / "studio.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(LibraryError, match=r"made by a newer version of Concept Studio. Update Concept Studio"):
        Library(tmp_path)
    with sqlite3.connect(tmp_path / "studio.sqlite") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    connection.close()


def test_a_migration_that_fails_leaves_nothing_half_done(tmp_path, monkeypatch):
    real = op.create_table

    def fail_at_results(name, *columns, **options):
        if name == "results":
            raise OSError(28, "No space left on device")
        return real(name, *columns, **options)

    with monkeypatch.context() as patched:
        patched.setattr(op, "create_table", fail_at_results)
        with pytest.raises(LibraryError, match="No space left"):
            Library(tmp_path)
    with sqlite3.connect(tmp_path / "studio.sqlite") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()
    assert Library(tmp_path).concepts() == []


@pytest.mark.parametrize("name", ["studio.sqlite", "studio.lock"])
def test_a_file_that_is_no_database(name, tmp_path):
    (tmp_path / name).write_bytes(b"something else entirely " * 100)
    with pytest.raises(LibraryError, match="file is not a database"):
        Library(tmp_path)
    assert (tmp_path / name).read_bytes() == b"something else entirely " * 100


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "root").write_text("text")
    with pytest.raises(LibraryError, match="a file is in the place of a folder"):
        Library(tmp_path / "root")
