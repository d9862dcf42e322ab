"""Names and class words: which are allowed, and the concept behind a name."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from concepts.database import advisory_lock
from concepts.errors import LibraryError
from concepts.patterns import CLASS_WORD, NAME
from concepts.tables import ConceptRecord

_CANDIDATES = 2000
_CHUNK = 500  # below the maximum number of values in a statement


def check_words(name: str, class_word: str) -> None:
    """Raises LibraryError for a name or a class word that cannot be used in a prompt."""
    check_name(name)
    check_class_word(class_word)


def check_name(name: str) -> None:
    """Raises LibraryError for a name that cannot be used in a prompt."""
    if not NAME.fullmatch(name):
        raise LibraryError(
            f'"{name}" is not a valid name. Use 1 to 40 letters, digits, _ and -, starting with a letter.'
        )


def check_class_word(class_word: str) -> None:
    """Raises LibraryError for a class word that cannot be used in a prompt."""
    if not CLASS_WORD.fullmatch(class_word):
        raise LibraryError(
            f'"{class_word}" is not a valid class word. Say what the thing is in 1 to 40 letters, such as dog.'
        )


def find(session: Session, name: str, lock: bool = False) -> ConceptRecord:
    """The concept of this name, in any case; with `lock` it is locked until the transaction ends.

    Raises LibraryError with the nearest known names.
    """
    query = select(ConceptRecord).where(ConceptRecord.key == name.lower())
    record = session.scalar(query.with_for_update() if lock else query)
    if record is None:
        hint = _hint(session, name)
        raise LibraryError(f'There is no concept "{name}". {hint}')
    return record


def chosen_by_name(session: Session, query: Select[Any], names: Sequence[str]) -> Iterator[Any]:
    """What `query` finds of the concepts of these names, in any case; unknown names find nothing."""
    keys = [name.lower() for name in names]
    for start in range(0, len(keys), _CHUNK):
        yield from session.scalars(query.where(ConceptRecord.key.in_(keys[start : start + _CHUNK])))


def find_removed(session: Session, name: str) -> ConceptRecord:
    """The concept of this name that was removed last, in any case. Raises LibraryError when there is none."""
    removed = ConceptRecord.removed.is_not(None) & (func.lower(ConceptRecord.name) == name.lower())
    record = session.scalars(select(ConceptRecord).where(removed).order_by(ConceptRecord.removed.desc())).first()
    if record is None:
        raise LibraryError(
            f'No removed concept is named "{name}". A concept that was removed with --for-good cannot be restored.'
        )
    return record


def find_or_removed(session: Session, name: str) -> ConceptRecord:
    """The concept of this name, else the one that was removed last. Raises LibraryError with the nearest names."""
    try:
        return find(session, name)
    except LibraryError as unknown:
        try:
            return find_removed(session, name)
        except LibraryError:
            raise unknown from None


def refuse_taken(session: Session, name: str) -> None:
    """Raises LibraryError when a concept of this name is there already."""
    advisory_lock(session, f"name {name.lower()}")
    taken = session.scalar(select(ConceptRecord.name).where(ConceptRecord.key == name.lower()))
    if taken is not None:
        raise LibraryError(f'A concept "{taken}" already exists. Choose another name, or remove it first.')


def _candidates(session: Session, prefix: str) -> dict[str, str]:
    """Names that start with `prefix`, by key; at most _CANDIDATES + 1."""
    known = select(ConceptRecord.key, ConceptRecord.name).where(ConceptRecord.removed.is_(None))
    known = known.where(ConceptRecord.key >= prefix, ConceptRecord.key < prefix + "\x7f")
    return {record.key: record.name for record in session.execute(known.limit(_CANDIDATES + 1))}


def _hint(session: Session, name: str) -> str:
    names = _candidates(session, "")
    if len(names) > _CANDIDATES:  # too many to compare with: only those with the same first two letters
        names = _candidates(session, name[:2].lower())
    near = difflib.get_close_matches(name.lower(), names)
    if near:
        return "Did you mean " + " or ".join(f'"{names[key]}"' for key in near) + "?"
    return (
        "Run studio concept list to see their names."
        if names
        else "The library has no concepts: add one with its pictures."
    )
