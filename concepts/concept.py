"""A concept and its result as plain data, as they were when they were read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from concepts.columns.allocation import ColumnBlock, column_block
from concepts.columns.overlaps import Overlaps
from concepts.errors import LibraryError
from concepts.storage import StoragePath
from concepts.tables import ConceptRecord, PictureRecord, ResultRecord, new_id

CONCEPT_FILE = "concept.safetensors"
PREVIEW_FILE = "preview.png"


def snapshot_file(step: int) -> str:
    """The name of a snapshot's file; its preview is beside it, a PNG file."""
    return f"step-{step:08d}.safetensors"


@dataclass(frozen=True)
class Result:
    """The result of training a concept.

    `details` is everything else that was stored with it; it is long, and empty where many concepts are read at once.
    """

    path: StoragePath
    base: str
    adapter: str
    rank: int
    parameters: int
    scores: dict[str, Any]
    created: datetime
    details: dict[str, Any] = field(compare=False)

    @property
    def preview(self) -> StoragePath | None:
        """A PNG of what the trained concept looks like, when one was stored."""
        preview = self.path.with_name(PREVIEW_FILE)
        return preview if preview.exists() else None

    @property
    def snapshots(self) -> list[dict[str, Any]]:
        """The snapshots of the training, each with its "step" and its "image_alignment"; needs `details`."""
        return self.details.get("snapshots", [])

    def snapshot(self, step: int) -> StoragePath:
        """The file of the concept after this step; whether there is one is not checked."""
        return self.path.with_name(snapshot_file(step))


@dataclass(frozen=True)
class Concept:
    """A concept as it was when it was read; `created` is in UTC, and the pictures are PNG files.

    `captions` and `masks` are those of the pictures, None where there is none, and `repeats` says how often each counts
    in training. A variant has the pictures of the
    concept with the id `source_id`.
    """

    id: str
    name: str
    class_word: str
    created: datetime
    pictures: tuple[StoragePath, ...]
    columns: tuple[ColumnBlock, ...]
    result: Result | None
    captions: tuple[str | None, ...] = ()
    masks: tuple[StoragePath | None, ...] = ()
    repeats: tuple[int, ...] = ()
    source_id: str | None = None


def concept_of(record: ConceptRecord, root: StoragePath, shared: Overlaps, details: bool = True) -> Concept:
    """The public form of a concept's record, in the library at `root`, with its result's details or without."""
    owner = record.picture_owner
    folder, pictures = pictures_folder(root, owner), owner.pictures
    return Concept(
        id=record.id,
        name=record.name,
        class_word=record.class_word,
        created=record.created,
        pictures=tuple(folder / f"{picture.id}.png" for picture in pictures),
        columns=tuple(column_block(block, shared) for block in record.columns),
        result=record.result and result_of(record.result, root, details),
        captions=tuple(picture.caption for picture in pictures),
        masks=tuple(mask_file(folder, picture) if picture.masked else None for picture in pictures),
        repeats=tuple(picture.repeats for picture in pictures),
        source_id=record.source_id,
    )


def result_of(record: ResultRecord, root: StoragePath, details: bool = True) -> Result:
    """The public form of a result's record, in the library at `root`."""
    return Result(
        path=result_folder(root, record) / CONCEPT_FILE,
        base=record.base,
        adapter=record.adapter,
        rank=record.rank,
        parameters=record.parameters,
        scores=record.scores,
        created=record.created,
        details=record.details if details else {},
    )


def pictures_folder(root: StoragePath, record: ConceptRecord) -> StoragePath:
    """The folder of a concept's pictures."""
    return root / "pictures" / record.id


def mask_file(folder: StoragePath, record: PictureRecord) -> StoragePath:
    """The file of a picture's mask, among its concept's pictures."""
    return folder / f"{record.id}-mask.png"


def result_folder(root: StoragePath, record: ResultRecord) -> StoragePath:
    """The folder of a result's files."""
    return root / "results" / record.id


def checkpoints_folder(root: StoragePath, concept: Concept | ConceptRecord) -> StoragePath:
    """The folder of the checkpoints of a concept's training."""
    return root / "checkpoints" / concept.id


def runs_folder(local: Path, concept: Concept | ConceptRecord) -> Path:
    """The folder of TensorBoard's event files of a concept's training; TensorBoard shows its name."""
    return local / "runs" / f"{concept.name}-{concept.id[:8]}"


def result_record(details: Mapping[str, Any]) -> ResultRecord:
    """The record of these details. Raises LibraryError for values that are not JSON, and where one is missing."""
    rest = plain(details)
    try:
        known = {key: rest.pop(key) for key in ("base", "adapter", "rank", "parameters")}
    except KeyError as missing:
        raise LibraryError(f"The result's details have no key {missing}. Add it.") from missing
    return ResultRecord(id=new_id(), scores=rest.pop("scores", {}), details=rest, **known)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy as it will come back from the database."""
    try:
        return json.loads(json.dumps(dict(values)))
    except (TypeError, ValueError) as error:
        raise LibraryError(
            f"The result's details are not plain JSON ({error}). Use numbers, texts, lists and dictionaries."
        ) from error
