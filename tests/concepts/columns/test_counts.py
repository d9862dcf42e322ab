"""The counts of held blocks, and the pages of a library, on SQLite and on a real PostgreSQL."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from concepts import Library
from concepts.columns.counts import uses_of
from concepts.columns.overlaps import SHOWN
from concepts.tables import ColumnRecord, UseRecord

NAMES = "abcd"
steps = st.lists(
    st.tuples(st.sampled_from(["allocate", "remove", "hide", "fail"]), st.sampled_from(NAMES), st.integers(1, 6)),
    max_size=8,
)


@pytest.fixture
def library(tmp_path, database: str | None) -> Library:
    return Library(tmp_path / "library", database)


def counted(library: Library) -> dict[tuple[int, int], int]:
    """The blocks that are held, counted again."""
    with library._database.reading() as session:
        held = select(ColumnRecord.start, ColumnRecord.width, func.count()).group_by(
            ColumnRecord.start, ColumnRecord.width
        )
        return {(start, start + width): count for start, width, count in session.execute(held)}


def kept(library: Library) -> dict[tuple[int, int], int]:
    with library._database.reading() as session:
        return dict(uses_of(session, "abc", "columns"))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_the_counts_are_those_of_the_blocks(library, pictures: Path, taken):
    for what, name, width in taken:
        if name not in [concept.name for concept in library.concepts()]:
            library.add_concept(name, "dog", [pictures])
        if what == "allocate":
            library.allocate_columns(name, "abc", width, 8)
        elif what == "fail":
            with pytest.raises(KeyError), library.columns_for_result(name, "abc", width, 8):
                raise KeyError
        else:
            library.remove_concept(name, permanent=what == "remove")
        assert kept(library) == counted(library)


def test_a_long_list_of_overlaps_is_cut(library, pictures):
    for index in range(SHOWN + 3):
        library.add_concept(f"c{index}", "dog", [pictures])
        library.allocate_columns(f"c{index}", "abc", 4, 4)
    (block,) = library.concept("c0").columns
    assert len(block.shared_with) == SHOWN
    assert block.note().endswith(" and others: merged, their changes add up there.")
    with library._database.reading() as session:
        assert session.scalars(select(UseRecord.holders)).all() == [SHOWN + 3]


def test_pages_by_age_and_by_name(library, pictures):
    for name in ("rex", "milo", "Rosa", "ro", "rosy"):
        library.add_concept(name, "dog", [pictures])
    library.remove_concept("ro", permanent=False)
    first = library.page(2)
    assert [concept.name for concept in [*first, *library.page(2, first[-1])]] == ["rex", "milo", "Rosa", "rosy"]
    assert [concept.name for concept in library.page(search="RO")] == ["Rosa", "rosy"]
    found = library.page(1, search="r")
    assert [concept.name for concept in [*found, *library.page(9, found[0], "r")]] == ["rex", "Rosa", "rosy"]
    assert library.page(owner="somebody") == []
