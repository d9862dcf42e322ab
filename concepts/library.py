"""The concept library: a folder or URL with every concept's pictures and training result, and a database."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from concepts.columns.allocation import ColumnBlock, Space, allocate, held_for_result
from concepts.columns.overlaps import overlaps
from concepts.concept import (
    Concept,
    Result,
    checkpoints_folder,
    concept_of,
    pictures_folder,
    plain,
    result_folder,
    result_of,
    result_record,
    runs_folder,
)
from concepts.concept_pages import by_age, by_name, concepts_of, containing, with_details
from concepts.database import Database, translate_database_errors
from concepts.errors import LibraryError
from concepts.images.annotations import Annotations
from concepts.images.import_files import ImportedPicture, pictures_to_import, store_picture
from concepts.job import Job
from concepts.job_leases import Lease, concept_of_job
from concepts.job_queue import Jobs, cancel_unfinished
from concepts.names import check_words, chosen_by_name, find, find_or_removed, find_removed, refuse_taken
from concepts.orphans import adding, keep, sweep, sweep_temporary
from concepts.result_changes import Snapshot, delete_concept, replace_result, write_result
from concepts.storage import StoragePath, local_folder, make_folder, remove, storage_path
from concepts.tables import ConceptRecord, new_id
from concepts.variants import ConceptVariants, refuse_with_variants


class Library:
    """The library in a folder, or at a URL of fsspec; made when missing. Threads may share it; a process opens its own.

    `root` is where its files are, and `local` a folder of this machine for caches: the same one, or, for a URL, one
    in the user's cache. The database is an SQLite file in the folder, or PostgreSQL at the URL
    `database`. A change is either wholly in the database or not at all, and a file is removed only when no row names
    it. Every method raises LibraryError for input that it rejects, which leaves the library unchanged, and
    UnavailableError for a disk, an object store or a database that fails, and for changes to a folder that this user
    can only read.
    """

    def __init__(self, root: StoragePath | str, database: str | None = None):
        self.root = storage_path(root)
        self.local = local_folder(self.root)
        with translate_database_errors(self.root):
            for folder in (self.root / "pictures", self.root / "results", self.local):
                make_folder(folder, exist_ok=True)
        self.database = database
        self._database = Database(self.root, database)
        self.jobs = Jobs(self._database)
        self.annotations = Annotations(self.root, self._database)
        self.variants = ConceptVariants(self.root, self._database)
        with translate_database_errors(self.root):
            sweep(self.root, self._database)
            sweep_temporary(self.local)

    def concepts(self) -> list[Concept]:
        """Every concept, the oldest first."""
        return self.page(limit=None)

    def page(
        self, limit: int | None = 50, after: Concept | None = None, search: str = "", owner: str | None = None,
        newest: bool = False, trained: bool = False, part: str = "",
    ) -> list[Concept]:  # fmt: skip
        """At most `limit` concepts, oldest or newest first; by name those that start with `search`, or contain `part`.

        `after` is the last concept of the previous page. With `owner` only that owner's, and with `trained`
        only those that have a result.
        """
        query = by_name(search, after) if search else containing(part, after) if part else by_age(after, newest)
        if owner is not None:
            query = query.where(ConceptRecord.owner == owner)
        if trained:
            query = query.where(ConceptRecord.result.has())
        with self._database.reading() as session:
            return concepts_of(session, self.root, query.limit(limit))

    def concept(self, name: str) -> Concept:
        """The concept of this name, in any case. Raises LibraryError with the nearest known names."""
        with self._database.reading() as session:
            record = find(session, name)
            return concept_of(record, self.root, overlaps(session, record.columns))

    def find_concepts(self, names: Sequence[str], details: bool = False) -> list[Concept]:
        """The concepts of these names that exist, in any case; with `details`, their results have them."""
        with self._database.reading() as session:
            found = chosen_by_name(session, with_details() if details else select(ConceptRecord), names)
            return [concept_of(record, self.root, {}, details) for record in found]

    def concept_of_job(self, job: Job) -> Concept:
        """The concept that a job trains, also after a rename. Raises LeaseLostError when it was removed."""
        with self._database.reading() as session:
            record = concept_of_job(session, job)
            return concept_of(record, self.root, overlaps(session, record.columns))

    def add_concept(self, name: str, class_word: str, pictures: Sequence[Path | str | ImportedPicture]) -> Concept:
        """Adds a concept with 1 to 100 pictures, files or folders of them, stored upright as PNG. Those that
        `import_picture` has decoded are not decoded again.

        A picture's caption is in a text file of its name beside it. Its loss mask is in a picture beside it whose name
        ends in -mask or -masklabel, white where the loss counts, or follows from the picture's transparency. A folder
        named as kohya's, "10_rex", says how often its pictures count.

        The name is a label: 1 to 40 letters, digits, _ and -, beginning with a letter, unique whatever the
        case. The class word is what the thing is ("dog", "tea pot").
        """
        check_words(name, class_word)
        with self._database.reading() as session:
            refuse_taken(session, name)  # sooner than after reading the pictures
        files = pictures_to_import(pictures)
        record = ConceptRecord(id=new_id(), name=name, key=name.lower(), class_word=class_word)
        with adding(self._database, pictures_folder(self.root, record)) as folder:
            record.pictures = [store_picture(folder, file, position) for position, file in enumerate(files)]
            with self._database.writing() as session:
                refuse_taken(session, name)
                session.add(record)
                keep(session, folder)
        return self.concept(name)

    def rename_concept(self, name: str, new_name: str, class_word: str | None = None) -> Concept:
        """Gives a concept another name, and another class word if one is given. Its training result is unchanged."""
        with self._database.writing() as session:
            record = find(session, name)
            check_words(new_name, class_word or record.class_word)
            if new_name.lower() != record.key:
                refuse_taken(session, new_name)
            record.name, record.key = new_name, new_name.lower()
            record.class_word = class_word or record.class_word
        return self.concept(new_name)

    def add_trained(self, name: str, class_word: str, data: bytes, details: Mapping[str, Any]) -> Concept:
        """Adds a concept that was trained elsewhere, without pictures: its file, and details as for `store_result`."""
        check_words(name, class_word)
        record = ConceptRecord(id=new_id(), name=name, key=name.lower(), class_word=class_word)
        result = result_record(details)
        with adding(self._database, result_folder(self.root, result)) as folder:
            write_result(folder, data)
            with self._database.writing() as session:
                refuse_taken(session, name)
                record.result = result
                session.add(record)
                keep(session, folder)
        return self.concept(name)

    def remove_concept(self, name: str, permanent: bool = True) -> str:
        """Removes a concept with its pictures, its columns and its result; returns its name.

        Unless `permanent`, it is only hidden: its name is free, and `restore_concept` restores it with its columns.
        A hidden concept can still be removed permanently. Raises LibraryError for the source of existing variants.
        """
        with self._database.writing() as session:
            if not permanent:
                record = find(session, name, lock=True)
                cancel_unfinished(session, record)
                record.key, record.removed = record.removed_key, datetime.now(UTC)
                return record.name
            record = find_or_removed(session, name)
            refuse_with_variants(session, record)
            folders = delete_concept(session, record, self.root)
        for folder in (*folders, runs_folder(self.local, record)):
            remove(folder)
        return record.name

    def restore_concept(self, name: str) -> Concept:
        """Brings back the concept of this name that was removed last; LibraryError if its name is taken by now."""
        with self._database.writing() as session:
            record = find_removed(session, name)
            refuse_taken(session, record.name)
            record.key, record.removed = record.name.lower(), None
        return self.concept(record.name)

    def removed_concepts(self) -> list[str]:
        """The names of what `restore_concept` can bring back, the last removed first."""
        with self._database.reading() as session:
            removed = select(ConceptRecord.name).where(ConceptRecord.removed.is_not(None))
            return list(session.scalars(removed.order_by(ConceptRecord.removed.desc())))

    def allocate_columns(
        self, name: str, base: str, width: int, capacity: int, start: int | None = None, space: Space = "columns"
    ) -> ColumnBlock:
        """Allocates to a concept `width` singular columns, out of `capacity`, of the base with this fingerprint.

        It is the lowest free block, or the one from `start`; a concept that holds one of this width keeps it, and
        another is replaced. When none is free, the least used columns are shared; `shared_with` and `overlaps` list
        with which concepts. The space "rows" allocates rows of orthogonal adaptation's basis in the same way.
        """
        with self._database.writing() as session:
            return allocate(session, find(session, name), base, width, capacity, start, space)

    def columns_for_result(
        self, name: str, base: str, width: int, capacity: int, start: int | None = None, space: Space = "columns"
    ) -> AbstractContextManager[ColumnBlock]:
        """`allocate_columns` while a training runs: if it ends without a new result, they are released.

        The concept then holds again what it held before.
        """
        return held_for_result(self._database, name, base, width, capacity, start, space)

    def store_result(
        self,
        name: str,
        data: bytes,
        details: Mapping[str, Any],
        preview: bytes | None = None,
        lease: Lease | None = None,
        snapshots: Sequence[Snapshot] = (),
    ) -> Result:
        """Stores a trained concept's file, a PNG preview and snapshots; they replace the earlier result.

        `details` is plain JSON with at least base (its fingerprint), adapter, rank and parameters (the number
        trained), and may have scores; the rest is returned as `Result.details`. With `lease` the result ends that job;
        it is not stored where the lease is lost.
        """
        result = result_record(details)
        with adding(self._database, result_folder(self.root, result)) as folder:
            write_result(folder, data, preview, snapshots)
            with self._database.writing() as session:
                record = concept_of_job(session, lease.job) if lease else find(session, name, lock=True)
                replaced = replace_result(session, record, result, self.root)
                keep(session, folder)
                if lease is not None:
                    lease.finish(session, result.id)
        for old in replaced:
            remove(old)
        return result_of(result, self.root)

    def set_scores(self, name: str, scores: Mapping[str, Any]) -> None:
        """Replaces the scores of a concept's result. Raises LibraryError when it is not trained yet."""
        with self._database.writing() as session:
            record = find(session, name)
            if record.result is None:
                raise LibraryError(f'"{record.name}" has no training result to score. Train it first.')
            record.result.scores = plain(scores)

    def checkpoints(self, concept: Concept) -> StoragePath:
        """The folder for the checkpoints of a concept's training, which its trainer makes and removes."""
        return checkpoints_folder(self.root, concept)

    def runs(self, concept: Concept) -> Path:
        """The folder for TensorBoard's event files of a concept's training, which its trainer writes."""
        return runs_folder(self.local, concept)
