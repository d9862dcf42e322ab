"""The concept library: a folder with a database, every concept's pictures and what training made."""

import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from concepts.database import explained, open_database
from concepts.errors import LibraryError
from concepts.images import encode_png, picture_files, read_picture
from concepts.ledger import ColumnBlock, Overlaps, Space, allocate, block_of, column_block, give_back, overlaps
from concepts.leftovers import sweep
from concepts.names import check_words, find, find_removed, refuse_taken
from concepts.records import ConceptRecord, PictureRecord, ResultRecord, new_id
from concepts.storage import atomic_write, make_folder, remove

MAX_PICTURES = 100
CONCEPT_FILE = "concept.safetensors"
PREVIEW_FILE = "preview.png"


@dataclass(frozen=True)
class Result:
    """What training made of a concept; `details` is everything else that was stored with it.

    `preview` is a PNG of what the trained concept looks like, when one was stored.
    """

    path: Path
    preview: Path | None
    base: str
    adapter: str
    rank: int
    parameters: int
    scores: dict[str, Any]
    created: datetime
    details: dict[str, Any]


@dataclass(frozen=True)
class Concept:
    """A concept as it was when it was read; `created` is in UTC, and the pictures are PNG files."""

    id: str
    name: str
    class_word: str
    created: datetime
    pictures: tuple[Path, ...]
    columns: tuple[ColumnBlock, ...]
    result: Result | None


class Library:
    """The library in a folder, made when missing; threads may share it, and each process opens its own.

    A change is either wholly in the database or not at all, and a file is removed only when no row names it.
    Every method raises LibraryError, and leaves the library as it was, for what it refuses and for a disk or
    a database that fails.
    """

    def __init__(self, root: Path | str):
        self.root = Path(root).expanduser().resolve()
        with explained(self.root):
            for folder in (self._pictures, self._results):
                folder.mkdir(parents=True, exist_ok=True)
            engine = open_database(self.root / "studio.sqlite")
        self._reading = sessionmaker(engine)
        self._write_sessions = sessionmaker(engine.execution_options(begin="IMMEDIATE"), expire_on_commit=False)
        self._turn = Lock()  # SQLite alone lets a thread starve where others write in a tight loop
        weakref.finalize(self, engine.dispose)
        with explained(self.root), self._reading() as session:
            sweep(self.root, session)

    def concepts(self) -> list[Concept]:
        """Every concept, the oldest first."""
        with explained(self.root), self._reading() as session:
            by_age = select(ConceptRecord).order_by(ConceptRecord.created, ConceptRecord.key)
            shared = overlaps(session)
            present = session.scalars(by_age.where(ConceptRecord.removed.is_(None)))
            return [self._concept(record, shared) for record in present]

    def concept(self, name: str) -> Concept:
        """The concept of this name, in any case. Raises LibraryError with the nearest known names."""
        with explained(self.root), self._reading() as session:
            record = find(session, name)
            return self._concept(record, overlaps(session, record))

    def add_concept(self, name: str, class_word: str, pictures: Sequence[Path | str]) -> Concept:
        """Adds a concept with 1 to 100 pictures, files or folders of them, stored upright as PNG.

        The name is a label: 1 to 40 letters, digits, _ and -, beginning with a letter, unique whatever the
        case. The class word is what the thing is ("dog", "tea pot").
        """
        check_words(name, class_word)
        with explained(self.root), self._reading() as session:
            refuse_taken(session, name)  # sooner than after reading the pictures
        files = picture_files(pictures)
        if not 1 <= len(files) <= MAX_PICTURES:
            raise LibraryError(f"Give 1 to {MAX_PICTURES} pictures, not {len(files)}: 3 to 10 are best.")
        record = ConceptRecord(id=new_id(), name=name, key=name.lower(), class_word=class_word)
        with self._adding(record, self._pictures / record.id) as folder:
            record.pictures = [PictureRecord(id=new_id(), position=i) for i in range(len(files))]
            make_folder(folder)
            for picture, file in zip(record.pictures, files, strict=True):
                atomic_write(folder / f"{picture.id}.png", encode_png(read_picture(file, str(file))))
            with self._writing() as session:
                refuse_taken(session, name)
                session.add(record)
        return self.concept(name)

    def remove_concept(self, name: str, for_good: bool = True) -> str:
        """Removes a concept with its pictures, its columns and its result; returns its name.

        Not for good, it is out of sight, its name is free, and `restore_concept` finds all of it again, its columns
        too. What was removed so can still be removed for good.
        """
        with self._writing() as session:
            if not for_good:
                record = find(session, name)
                record.key, record.removed = record.removed_key, datetime.now(UTC)
                return record.name
            try:
                record = find(session, name)
            except LibraryError as unknown:
                record = _removed_or(session, name, unknown)
            files = [
                self._pictures / record.id,
                self._checkpoints / record.id,
                self.root / "runs" / f"{record.name}-{record.id[:8]}",
                *self._result_folders(record),
            ]
            session.delete(record)
        for file in files:
            remove(file)
        return record.name

    def restore_concept(self, name: str) -> Concept:
        """Brings back the concept of this name that was removed last; LibraryError if its name is taken by now."""
        with self._writing() as session:
            record = find_removed(session, name)
            refuse_taken(session, record.name)
            record.key, record.removed = record.name.lower(), None
        return self.concept(record.name)

    def removed_concepts(self) -> list[str]:
        """The names of what `restore_concept` can bring back, the last removed first."""
        with explained(self.root), self._reading() as session:
            removed = select(ConceptRecord.name).where(ConceptRecord.removed.is_not(None))
            return list(session.scalars(removed.order_by(ConceptRecord.removed.desc())))

    def allocate_columns(
        self,
        name: str,
        base: str,
        width: int,
        capacity: int,
        start: int | None = None,
        space: Space = "columns",
    ) -> ColumnBlock:
        """Hands a concept `width` singular columns, out of `capacity`, of the base with this fingerprint.

        It is the lowest free block, or the one from `start`; a concept that holds one of this width keeps it, and
        another is replaced. When none is free, the columns used least are shared; `shared_with` and `overlaps` tell
        with whom. The space "rows" hands out the rows of orthogonal adaptation's basis in the same way.
        """
        with self._writing() as session:
            return allocate(session, find(session, name), base, width, capacity, start, space)

    @contextmanager
    def columns_for_result(
        self,
        name: str,
        base: str,
        width: int,
        capacity: int,
        start: int | None = None,
        space: Space = "columns",
    ) -> Iterator[ColumnBlock]:
        """`allocate_columns` for as long as a training takes: without a new result in the end they are given back.

        The concept then holds again what it held before.
        """
        with self._writing() as session:
            record = find(session, name)
            identifier, result, before = record.id, record.result, block_of(session, record, base, space)
            block = allocate(session, record, base, width, capacity, start, space)
        try:
            yield block
        except BaseException:
            with suppress(LibraryError), self._writing() as session:
                now = session.get(ConceptRecord, identifier)
                if now and (now.result and now.result.id) == (result and result.id):
                    give_back(session, now, base, before, space)
            raise

    def store_result(self, name: str, data: bytes, details: Mapping[str, Any], preview: bytes | None = None) -> Result:
        """Stores the file that training made, and a PNG of it; they take the place of the result before.

        `details` is plain JSON with at least base (its fingerprint), adapter, rank and parameters (the number
        trained), and may have scores; the rest comes back as `Result.details`.
        """
        result = _result_record(details)
        with self._adding(result, self._results / result.id) as folder:
            make_folder(folder)
            atomic_write(folder / CONCEPT_FILE, data)
            if preview is not None:
                atomic_write(folder / PREVIEW_FILE, preview)
            with self._writing() as session:
                record = find(session, name)
                replaced = self._result_folders(record)
                if record.result is not None:
                    session.delete(record.result)
                    session.flush()  # one result a concept: the old row goes before the new one comes
                result.concept_id = record.id
                session.add(result)
        for old in replaced:
            remove(old)
        return self._result(result)

    def set_scores(self, name: str, scores: Mapping[str, Any]) -> None:
        """Replaces the scores of a concept's result. Raises LibraryError when it was not trained yet."""
        with self._writing() as session:
            record = find(session, name)
            if record.result is None:
                raise LibraryError(f'"{record.name}" has no result to score: train it first.')
            record.result.scores = _plain(scores)

    def checkpoints(self, concept: Concept) -> Path:
        """The folder for the checkpoints of a concept's training, which its trainer makes and removes."""
        return self._checkpoints / concept.id

    def runs(self, concept: Concept) -> Path:
        """The folder for what TensorBoard reads of a concept's training, which its trainer writes."""
        return self.root / "runs" / f"{concept.name}-{concept.id[:8]}"

    @property
    def _checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def _pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def _results(self) -> Path:
        return self.root / "results"

    def _result_folders(self, record: ConceptRecord) -> list[Path]:
        return [] if record.result is None else [self._results / record.result.id]

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with explained(self.root), self._turn, self._write_sessions.begin() as session:
            yield session

    @contextmanager
    def _adding(self, record: ConceptRecord | ResultRecord, path: Path) -> Iterator[Path]:
        """Removes the folder of a record that did not get into the database."""
        table, identifier = type(record), record.id
        try:
            with explained(self.root):
                yield path
        except BaseException:
            with explained(self.root), self._reading() as session:
                if session.get(table, identifier) is None:  # an interrupt may come just after the commit
                    remove(path)
            raise

    def _concept(self, record: ConceptRecord, shared: Overlaps) -> Concept:
        folder = self._pictures / record.id
        return Concept(
            id=record.id,
            name=record.name,
            class_word=record.class_word,
            created=record.created,
            pictures=tuple(folder / f"{picture.id}.png" for picture in record.pictures),
            columns=tuple(column_block(block, shared) for block in record.columns),
            result=record.result and self._result(record.result),
        )

    def _result(self, record: ResultRecord) -> Result:
        folder = self._results / record.id
        preview = folder / PREVIEW_FILE
        return Result(
            path=folder / CONCEPT_FILE,
            preview=preview if preview.exists() else None,
            base=record.base,
            adapter=record.adapter,
            rank=record.rank,
            parameters=record.parameters,
            scores=record.scores,
            created=record.created,
            details=record.details,
        )


def _removed_or(session: Session, name: str, unknown: LibraryError) -> ConceptRecord:
    try:
        return find_removed(session, name)
    except LibraryError:
        raise unknown from None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy as it will come back from the database."""
    try:
        return json.loads(json.dumps(dict(values)))
    except (TypeError, ValueError) as error:
        raise LibraryError(f"A result cannot hold these values ({error}): use plain JSON.") from error


def _result_record(details: Mapping[str, Any]) -> ResultRecord:
    rest = _plain(details)
    try:
        known = {key: rest.pop(key) for key in ("base", "adapter", "rank", "parameters")}
    except KeyError as missing:
        raise LibraryError(f"The details of a result lack {missing}: give it with the others.") from missing
    return ResultRecord(id=new_id(), scores=rest.pop("scores", {}), details=rest, **known)
