"""Changes of several rows at once: a result that replaces another, and the deletion of a concept."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from concepts.concept import (
    CONCEPT_FILE,
    PREVIEW_FILE,
    checkpoints_folder,
    pictures_folder,
    result_folder,
    snapshot_file,
)
from concepts.orphans import note
from concepts.storage import StoragePath, atomic_write
from concepts.tables import ConceptRecord, ResultRecord

Snapshot = tuple[int, bytes, bytes | None]
"""A snapshot's step, file and PNG preview."""


def write_result(
    folder: StoragePath, data: bytes, preview: bytes | None = None, snapshots: Iterable[Snapshot] = ()
) -> None:
    """Writes the files of a result."""
    atomic_write(folder / CONCEPT_FILE, data)
    if preview is not None:
        atomic_write(folder / PREVIEW_FILE, preview)
    for step, concept, shown in snapshots:
        path = folder / snapshot_file(step)
        atomic_write(path, concept)
        if shown is not None:
            atomic_write(path.with_suffix(".png"), shown)


def replace_result(
    session: Session, concept: ConceptRecord, result: ResultRecord, root: StoragePath
) -> list[StoragePath]:
    """Makes this the concept's result; returns the folders to remove once the transaction is committed."""
    replaced = [result_folder(root, concept.result)] if concept.result else []
    if concept.result is not None:
        note(session, replaced)
        session.delete(concept.result)
        session.flush()  # one result per concept: the old row is deleted before the new one is inserted
    result.concept_id = concept.id
    session.add(result)
    return replaced


def delete_concept(session: Session, concept: ConceptRecord, root: StoragePath) -> list[StoragePath]:
    """Deletes a concept's rows; returns the folders to remove once the transaction is committed."""
    folders = [pictures_folder(root, concept), checkpoints_folder(root, concept)]
    if concept.result is not None:
        folders.append(result_folder(root, concept.result))
    session.delete(concept)
    note(session, folders)
    return folders
