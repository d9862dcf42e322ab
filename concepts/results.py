"""What several rows take part in: a result that replaces another, and a concept that goes with all it has."""

from sqlalchemy.orm import Session

from concepts.concept import CONCEPT_FILE, PREVIEW_FILE, checkpoints_folder, pictures_folder, result_folder
from concepts.orphans import note
from concepts.storage import StoragePath, atomic_write
from concepts.tables import ConceptRecord, ResultRecord


def write_result(folder: StoragePath, data: bytes, preview: bytes | None = None) -> None:
    """Writes the files of a result."""
    atomic_write(folder / CONCEPT_FILE, data)
    if preview is not None:
        atomic_write(folder / PREVIEW_FILE, preview)


def replace_result(
    session: Session, concept: ConceptRecord, result: ResultRecord, root: StoragePath
) -> list[StoragePath]:
    """Makes this the concept's result; the folders that are of no use once the transaction is committed."""
    replaced = [result_folder(root, concept.result)] if concept.result else []
    if concept.result is not None:
        note(session, replaced)
        session.delete(concept.result)
        session.flush()  # one result a concept: the old row goes before the new one comes
    result.concept_id = concept.id
    session.add(result)
    return replaced


def delete_concept(session: Session, concept: ConceptRecord, root: StoragePath) -> list[StoragePath]:
    """Takes a concept out of the database; the folders that are of no use once the transaction is committed."""
    folders = [pictures_folder(root, concept), checkpoints_folder(root, concept)]
    if concept.result is not None:
        folders.append(result_folder(root, concept.result))
    session.delete(concept)
    note(session, folders)
    return folders
