import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import sessionmaker

from concepts import ColumnBlock, Library, Overlap
from concepts.columns.allocation import allocate, best_start
from concepts.errors import LibraryError
from concepts.names import find
from concepts.tables import ConceptRecord, Record, new_id

blocks = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)).map(lambda b: (b[0], b[0] + b[1])), max_size=8)


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    return tmp_path / "one.png"


@pytest.fixture
def library(tmp_path, picture: Path) -> Library:
    """A library of the concepts a, b, c and d."""
    library = Library(tmp_path / "library")
    for name in "abcd":
        library.add_concept(name, "dog", [picture])
    return library


def migrate(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "concepts:migrations")
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@pytest.fixture
def postgresql_sessions(postgresql: str) -> Iterator[sessionmaker]:
    """A real PostgreSQL database, with the tables that the migrations make."""
    engine = create_engine(postgresql.replace("postgresql://", "postgresql+psycopg://", 1), pool_size=8)
    migrate(engine, "head")
    yield sessionmaker(engine)
    engine.dispose()


@given(blocks, st.integers(1, 24))
def test_no_start_uses_fewer_columns_and_no_lower_one_as_few(taken, width):
    capacity = 24

    def used(start):
        return sum(lo <= column < hi for lo, hi in taken for column in range(start, start + width))

    start = best_start(Counter(taken), width, capacity)
    assert start == min(range(capacity - width + 1), key=used)  # min takes the first of equals


def test_the_lowest_gap_that_is_wide_enough():
    taken = [(0, 8), (12, 20), (28, 32)]
    assert best_start(Counter(taken), 4, 64) == 8
    assert best_start(Counter(taken), 8, 64) == 20
    assert best_start(Counter(taken), 9, 64) == 32


def test_many_concepts_spread_evenly():
    taken: list[tuple[int, int]] = []
    for _ in range(10):
        start = best_start(Counter(taken), 8, 32)
        taken.append((start, start + 8))
    assert [start for start, _ in taken] == [0, 8, 16, 24, 0, 8, 16, 24, 0, 8]


@pytest.mark.parametrize("width", [0, -1, 33])
def test_a_width_that_cannot_fit(width):
    with pytest.raises(LibraryError, match="Choose a rank from 1 to 32"):
        best_start({}, width, 32)


def test_the_requested_block_is_allocated(library):
    assert library.allocate_columns("a", "abc", 8, 64, start=16).start == 16
    assert library.allocate_columns("b", "abc", 16, 64).start == 0
    assert library.allocate_columns("c", "abc", 17, 64).start == 24
    assert library.allocate_columns("a", "abc", 8, 64).start == 16, "without a wish it keeps what it holds"
    assert library.allocate_columns("a", "abc", 8, 64, start=48).start == 48
    with pytest.raises(LibraryError, match=r"First column 57 is outside the range for rank 8. Choose one from 0 to 56"):
        library.allocate_columns("a", "abc", 8, 64, start=57)
    assert library.concept("a").columns == (ColumnBlock("abc", 48, 8),)


def test_overlaps_are_listed(library):
    library.allocate_columns("a", "abc", 8, 64)
    library.allocate_columns("b", "abc", 8, 64)
    block = library.allocate_columns("c", "abc", 4, 64, start=7)
    assert block.overlaps == (Overlap("a", 7, 8), Overlap("b", 8, 11))
    assert block.shared_with == ("a", "b")
    assert block.note() == "It shares columns 7 with a, 8 to 10 with b: merged, their changes add up there."
    assert library.concept("a").columns[0].overlaps == (Overlap("c", 7, 8),)
    assert library.allocate_columns("d", "abc", 4, 64).note() is None


def test_basis_rows_are_allocated_separately(library):
    columns = library.allocate_columns("a", "abc", 8, 16)
    rows = library.allocate_columns("b", "abc", 8, 16, space="rows")
    assert (columns.start, rows.start) == (0, 0)
    assert not columns.shared_with
    assert not rows.shared_with
    assert library.allocate_columns("a", "abc", 8, 16, space="rows").start == 8
    assert {block.space for block in library.concept("a").columns} == {"columns", "rows"}
    shared = library.allocate_columns("c", "abc", 16, 16, space="rows")
    assert shared.note() == "It shares rows 8 to 15 with a, 0 to 7 with b: merged, their changes add up there."


def test_an_undone_removal_finds_its_columns_again(library):
    library.allocate_columns("a", "abc", 8, 64)
    library.store_result("a", b"data", {"base": "abc", "adapter": "lora", "rank": 4, "parameters": 3})
    before = library.concept("a")
    library.remove_concept("A", permanent=False)
    assert library.removed_concepts() == ["a"]
    assert [concept.name for concept in library.concepts()] == ["b", "c", "d"]
    with pytest.raises(LibraryError, match='no concept "a"'):
        library.concept("a")
    assert library.allocate_columns("b", "abc", 8, 64).start == 8, "its block is still held"
    assert library.restore_concept("a") == before
    assert before.result
    assert before.result.path.read_bytes() == b"data"
    assert library.removed_concepts() == []


def test_a_name_is_free_once_its_concept_is_removed(library, picture):
    library.remove_concept("a", permanent=False)
    library.add_concept("a", "cat", [picture])
    with pytest.raises(LibraryError, match='A concept "a" already exists'):
        library.restore_concept("a")
    library.remove_concept("a", permanent=False)
    assert library.restore_concept("a").class_word == "cat", "the last one that was removed"
    library.remove_concept("a", permanent=False)
    library.remove_concept("a")
    library.remove_concept("a")
    assert library.removed_concepts() == []
    with pytest.raises(LibraryError, match='no concept "a"'):
        library.remove_concept("a")
    with pytest.raises(LibraryError, match='No removed concept is named "a"'):
        library.restore_concept("a")


def test_a_permanent_removal_frees_the_block(library):
    for name in ("a", "b"):
        library.allocate_columns(name, "abc", 8, 64)
    library.remove_concept("a", permanent=False)
    assert library.allocate_columns("c", "abc", 8, 64).start == 16
    library.remove_concept("a")
    assert library.allocate_columns("d", "abc", 8, 64).start == 0


def test_a_removed_concept_shares_nothing(library):
    library.allocate_columns("a", "abc", 8, 8)
    library.remove_concept("a", permanent=False)
    assert library.allocate_columns("b", "abc", 8, 8).overlaps == ()


def ask_at_once(ask: Callable[[str], ColumnBlock], threads: int, each: int) -> list[int]:
    """The starts of the blocks that threads * each concepts get when several threads ask at once."""
    starts: list[int] = []

    def work(mine: range) -> None:
        starts.extend(ask(f"c{index}").start for index in mine)

    workers = [threading.Thread(target=work, args=(range(i, threads * each, threads),)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return starts


def fill(sessions: sessionmaker, count: int) -> None:
    names = [f"c{index}" for index in range(count)]
    with sessions.begin() as session:
        session.add_all(ConceptRecord(id=new_id(), name=name, key=name, class_word="dog") for name in names)


@pytest.mark.parametrize("each", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_threads_that_ask_sqlite_at_once_leave_no_overlap_and_no_gap(each: int, tmp_path):
    library = Library(tmp_path)
    fill(library._database._writing, 8 * each)
    starts = ask_at_once(lambda name: library.allocate_columns(name, "abc", 8, 2000 * 8), 8, each)
    assert sorted(starts) == list(range(0, 8 * each * 8, 8))


@pytest.mark.parametrize("each", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_threads_that_ask_postgresql_at_once_leave_no_overlap_and_no_gap(each: int, postgresql_sessions):
    fill(postgresql_sessions, 8 * each)

    def ask(name: str) -> ColumnBlock:
        with postgresql_sessions.begin() as session:
            return allocate(session, find(session, name), "abc", 8, 2000 * 8)

    assert sorted(ask_at_once(ask, 8, each)) == list(range(0, 8 * each * 8, 8))


def test_the_migrations_give_postgresql_the_tables_of_the_records(postgresql_sessions):
    with postgresql_sessions() as session:
        context = MigrationContext.configure(session.connection())
        assert compare_metadata(context, Record.metadata) == []


def test_an_older_library_keeps_its_blocks_and_pictures(tmp_path):
    path = tmp_path / "studio.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    migrate(engine, "0001")
    with engine.begin() as connection:
        for name in ("a", "b"):
            connection.exec_driver_sql(
                f"INSERT INTO concepts VALUES ('{name}', '{name}', '{name}', 'dog', '2026-01-01 00:00:00')"
            )
            connection.exec_driver_sql(f"INSERT INTO columns VALUES ('{name}', '{name}', 'abc', 8, 4)")
            connection.exec_driver_sql(f"INSERT INTO images VALUES ('{name}', '{name}', 0)")
        connection.exec_driver_sql(
            "INSERT INTO results VALUES ('r', 'b', 'abc', 'orthogonal', 4, 1, '{}', '{}', '2026-01-01 00:00:00')"
        )
    engine.dispose()
    first, second = Library(tmp_path).concepts()
    assert first.columns == (ColumnBlock("abc", 8, 4),)
    assert second.columns == (ColumnBlock("abc", 8, 4, space="rows"),)
    assert [path.name for path in first.pictures] == ["a.png"]
    assert (first.captions, first.masks) == ((None,), (None,))
