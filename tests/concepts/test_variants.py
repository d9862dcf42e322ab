"""Variants refer to the pictures of their source."""

import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from concepts import Library, LibraryError


def test_a_variant_has_the_pictures_of_its_source_and_no_files(library: Library, pictures: Path, files):
    source = library.add_concept("rex", "dog", [pictures])
    before = files(library)
    variant = library.variants.add("REX", "rex-r4")
    assert files(library) == before
    assert (variant.pictures, variant.class_word, variant.source_id) == (source.pictures, "dog", source.id)
    assert library.variants.add("rex-r4", "rex-r8").source_id == source.id
    assert [each.name for each in library.variants.of("rex-r8")] == ["rex", "rex-r4", "rex-r8"]
    assert [each.pictures for each in library.concepts()] == [source.pictures] * 3


def test_captions_and_masks_are_those_of_the_source(library: Library, pictures: Path):
    library.add_concept("rex", "dog", [pictures])
    library.variants.add("rex", "rex-r4")
    library.annotations.set_caption("rex-r4", 1, "a dog, asleep")
    library.annotations.set_mask("rex", 0, Image.new("L", (64, 64), 255))
    source, variant = library.concept("rex"), library.concept("rex-r4")
    assert variant.captions == source.captions == (None, "a dog, asleep", None)
    assert variant.masks == source.masks
    assert variant.masks[0]


def test_a_source_goes_after_its_variants(library: Library, pictures: Path, files):
    empty = files(library)
    library.add_concept("rex", "dog", [pictures])
    library.variants.add("rex", "rex-r4")
    library.remove_concept("rex-r4", permanent=False)
    with pytest.raises(LibraryError, match="The concepts rex-r4 use the pictures"):
        library.remove_concept("rex")
    assert library.restore_concept("rex-r4").pictures == library.concept("rex").pictures
    library.remove_concept("rex", permanent=False)
    assert len(library.concept("rex-r4").pictures) == 3, "they stay for as long as they are needed"
    library.remove_concept("rex-r4")
    library.remove_concept("rex")
    assert files(library) == empty


@pytest.mark.parametrize(("source", "name", "said"), [
    ("nobody", "rex-r4", "no concept"), ("rex", "odd name", "is not a valid name"), ("rex", "REX", "already"),
])  # fmt: skip
def test_what_cannot_be_a_variant_is_refused(library: Library, pictures: Path, unchanged, source, name, said):
    library.add_concept("rex", "dog", [pictures])
    unchanged()
    with pytest.raises(LibraryError, match=said):
        library.variants.add(source, name)


def test_a_library_of_before_opens_and_keeps_its_variants(tmp_path: Path, pictures: Path, details):
    library = Library(tmp_path / "before")
    for name in ("rex", "rex-r4"):  # copies, as variants were until then
        library.add_concept(name, "dog", [pictures])
        library.store_result(name, name.encode(), details)
    before = library.concepts()
    _downgraded(tmp_path / "before" / "studio.sqlite")
    opened = Library(tmp_path / "before")
    assert opened.concepts() == before
    assert [each.source_id for each in opened.concepts()] == [None, None]
    assert opened.variants.add("rex-r4", "rex-r8").pictures == opened.concept("rex-r4").pictures


def _downgraded(file: Path) -> None:
    """Brings a database to the schema of before variants had a source."""
    with sqlite3.connect(file) as connection:
        connection.execute("DROP INDEX ix_concepts_source")
        connection.execute("ALTER TABLE concepts DROP COLUMN source_id")
        connection.execute("ALTER TABLE images DROP COLUMN repeats")
        connection.execute("ALTER TABLE jobs DROP COLUMN seconds_per_step")
        connection.execute("UPDATE alembic_version SET version_num = '0005'")
    connection.close()
