import pytest

from concepts import ColumnBlock, LibraryError


def test_columns(library, pictures):
    for name in ("a", "b", "c"):
        library.add_concept(name, "dog", [pictures])
    assert library.allocate_columns("a", "abc", 8, 24) == ColumnBlock("abc", 0, 8)
    assert library.allocate_columns("b", "abc", 8, 24) == ColumnBlock("abc", 8, 8)
    assert library.allocate_columns("a", "abc", 8, 24) == ColumnBlock("abc", 0, 8), "it keeps what it holds"
    assert library.allocate_columns("b", "other base", 4, 24) == ColumnBlock("other base", 0, 4)
    assert library.allocate_columns("a", "abc", 4, 24) == ColumnBlock("abc", 0, 4), "another width replaces"
    assert library.allocate_columns("c", "abc", 8, 24) == ColumnBlock("abc", 16, 8)
    assert library.concept("b").columns == (ColumnBlock("abc", 8, 8), ColumnBlock("other base", 0, 4))
    assert library.allocate_columns("c", "abc", 8, 16).start == 0, "one that the base lacks is replaced"


def test_a_shared_block_names_the_others(library, pictures):
    for name in ("a", "b", "c", "d"):
        library.add_concept(name, "dog", [pictures])
    for name in ("a", "b"):
        library.allocate_columns(name, "abc", 8, 16)
    assert library.allocate_columns("d", "abc", 8, 16) == ColumnBlock("abc", 0, 8, ("a",))
    assert library.allocate_columns("c", "abc", 8, 16) == ColumnBlock("abc", 8, 8, ("b",))
    assert [concept.columns[0].shared_with for concept in library.concepts()] == [
        ("d",),
        ("c",),
        ("b",),
        ("a",),
    ]
    assert library.allocate_columns("c", "abc", 16, 16).shared_with == ("a", "b", "d")
    library.remove_concept("d")
    assert library.concept("a").columns[0].shared_with == ("c",)


def test_a_rank_beyond_the_base(library, pictures, unchanged):
    library.add_concept("rex", "dog", [pictures])
    library.allocate_columns("rex", "abc", 8, 64)
    unchanged()
    with pytest.raises(LibraryError, match=r"rank 65 is too high for this base. Choose a rank from 1 to 64"):
        library.allocate_columns("rex", "abc", 65, 64)


def test_columns_of_a_training_that_stores_no_result_are_released(library, pictures, details):
    for name in ("a", "b"):
        library.add_concept(name, "dog", [pictures])
    library.allocate_columns("a", "abc", 8, 24)
    library.store_result("a", b"data", details)
    for name, width in (("a", 4), ("b", 8)):
        before = library.concepts()
        with pytest.raises(KeyboardInterrupt), library.columns_for_result(name, "abc", width, 24) as block:  # noqa: PT012
            assert library.concept(name).columns == (block,)
            raise KeyboardInterrupt
        assert library.concepts() == before


def test_columns_of_a_result_are_stored(library, pictures, details):
    library.add_concept("a", "dog", [pictures])
    with library.columns_for_result("a", "abc", 8, 24) as block:
        library.store_result("a", b"data", details)
    assert library.concept("a").columns == (block,)
    with pytest.raises(KeyboardInterrupt), library.columns_for_result("a", "abc", 4, 24) as block:  # noqa: PT012
        library.store_result("a", b"other", details)
        raise KeyboardInterrupt
    assert library.concept("a").columns == (block,)


def test_columns_of_a_concept_that_is_removed_meanwhile_are_free(library, pictures):
    library.add_concept("a", "dog", [pictures])
    with pytest.raises(LibraryError, match="no concept"), library.columns_for_result("a", "abc", 8, 24):  # noqa: PT012
        library.remove_concept("a")
        library.concept("a")
    library.add_concept("a", "cat", [pictures])
    assert library.concept("a").columns == ()
