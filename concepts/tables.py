"""The tables of the library. A change here needs a migration in `concepts/migrations/versions`."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


def new_id() -> str:
    """A generated identifier, 32 hexadecimal digits: what files and folders are named by."""
    return uuid4().hex


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC, stored without its zone because SQLite has none."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Removes the zone before storing."""
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Adds UTC after reading."""
        return value and value.replace(tzinfo=UTC)


class Record(DeclarativeBase):
    """What every table shares: an identifier that the program generates."""

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)


class PictureRecord(Record):
    """One picture of a concept, its caption, whether it has a mask, and how often it counts; both files are named by
    the id.
    """

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("concept_id", "position"),)

    concept_id: Mapped[str] = mapped_column(ForeignKey("concepts.id", ondelete="CASCADE"))
    position: Mapped[int]
    caption: Mapped[str | None] = mapped_column(Text)
    masked: Mapped[bool] = mapped_column(default=False, server_default=false())
    repeats: Mapped[int] = mapped_column(default=1, server_default="1")


class ColumnRecord(Record):
    """The singular columns, or basis rows, [start, start + width) of one base, held by one concept."""

    __tablename__ = "columns"
    __table_args__ = (
        UniqueConstraint("concept_id", "base", "space"),
        Index("ix_columns_block", "base", "space", "start", "width"),
    )

    concept_id: Mapped[str] = mapped_column(ForeignKey("concepts.id", ondelete="CASCADE"))
    base: Mapped[str] = mapped_column(String(128))
    space: Mapped[Literal["columns", "rows"]] = mapped_column(String(8), default="columns")
    start: Mapped[int]
    width: Mapped[int]

    @property
    def stop(self) -> int:
        """The first column after the block."""
        return self.start + self.width


class UseRecord(Record):
    """How many concepts hold the block [start, start + width) of one base; `concepts.columns.counts` counts."""

    __tablename__ = "column_uses"
    __table_args__ = (UniqueConstraint("base", "space", "start", "width"),)

    base: Mapped[str] = mapped_column(String(128))
    space: Mapped[str] = mapped_column(String(8))
    start: Mapped[int]
    width: Mapped[int]
    holders: Mapped[int]


class LeftoverRecord(Record):
    """A folder of the library that no row names, as pictures/ID; `concepts.orphans` removes it after a day."""

    __tablename__ = "leftovers"

    place: Mapped[str] = mapped_column(String(80), unique=True)
    since: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class ResultRecord(Record):
    """The training result of a concept, at most one per concept; its file is named by the id."""

    __tablename__ = "results"

    concept_id: Mapped[str] = mapped_column(ForeignKey("concepts.id", ondelete="CASCADE"), unique=True)
    base: Mapped[str] = mapped_column(String(128))
    adapter: Mapped[str] = mapped_column(String(40))
    rank: Mapped[int]
    parameters: Mapped[int]
    scores: Mapped[dict[str, Any]] = mapped_column(JSON)
    details: Mapped[dict[str, Any]] = mapped_column(JSON, deferred=True)  # long: with the loss of every step
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))


def _where(condition: str) -> dict[str, Any]:
    """The options of a partial index."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class ConceptRecord(Record):
    """A concept. Its `key` is its name in lower case, so that names differ by more than case.

    A variant is trained on the pictures of the concept `source_id`, which has pictures of its own, and has none itself.

    One that was removed, but not permanently, keeps its rows and files; its key is `removed_key`, not a valid name.
    """

    __tablename__ = "concepts"
    __table_args__ = (
        Index("ix_concepts_page", "created", "id", **_where("removed IS NULL")),
        Index("ix_concepts_owner", "owner", "created", "id", **_where("removed IS NULL")),
        Index("ix_concepts_removed", "removed", **_where("removed IS NOT NULL")),
        Index("ix_concepts_source", "source_id"),
    )

    name: Mapped[str] = mapped_column(String(40))
    # PostgreSQL sorts it by its bytes, as SQLite does, so that names with a common prefix are adjacent
    key: Mapped[str] = mapped_column(String(40).with_variant(String(40, collation="C"), "postgresql"), unique=True)
    owner: Mapped[str] = mapped_column(String(64), default="", server_default="")
    class_word: Mapped[str] = mapped_column(String(40))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))
    removed: Mapped[datetime | None] = mapped_column(UtcDateTime)
    source_id: Mapped[str | None] = mapped_column(ForeignKey("concepts.id"))
    source: Mapped["ConceptRecord | None"] = relationship(
        remote_side=lambda: [ConceptRecord.id], lazy="selectin", join_depth=1
    )
    pictures: Mapped[list[PictureRecord]] = relationship(
        order_by=PictureRecord.position, cascade="all, delete-orphan", lazy="selectin"
    )
    columns: Mapped[list[ColumnRecord]] = relationship(
        order_by=(ColumnRecord.base, ColumnRecord.space), cascade="all, delete-orphan", lazy="selectin"
    )
    result: Mapped[ResultRecord | None] = relationship(cascade="all, delete-orphan", lazy="selectin")

    @property
    def picture_owner(self) -> "ConceptRecord":
        """The concept whose pictures these are: itself, or a variant's source."""
        return self.source or self

    @property
    def removed_key(self) -> str:
        """The key while it is removed."""
        return f"removed:{self.id}"


JobState = Literal["queued", "running", "done", "failed", "cancelled"]


class JobRecord(Record):
    """One training: queued, running or finished.

    A worker holds it by a lease: `worker` is the lease's identifier and `lease_until` the time at which it expires
    unless the worker renews it. `columns` is the block allocated for it, and the one that its concept held before:
    {"space", "start", "width", "capacity", "before": [start, width] or null}. `nice` is the negative priority, so that
    one ascending index gives the order in which jobs are leased.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_unfinished", "concept_id", unique=True, **_where("state IN ('queued', 'running')")),
        Index("ix_jobs_queued", "nice", "created", "id", **_where("state = 'queued'")),
        Index("ix_jobs_running", "lease_until", **_where("state = 'running'")),
        Index("ix_jobs_newest", "created", "id"),
        Index("ix_jobs_concept", "concept_id"),
        Index("ix_jobs_batch", "batch"),
    )

    concept_id: Mapped[str] = mapped_column(ForeignKey("concepts.id", ondelete="CASCADE"))
    owner: Mapped[str] = mapped_column(String(64), default="")
    batch: Mapped[str | None] = mapped_column(String(64))
    base: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(String(128))
    recipe: Mapped[dict[str, Any]] = mapped_column(JSON)
    columns: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    state: Mapped[JobState] = mapped_column(String(12), default="queued")
    nice: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    worker: Mapped[str | None] = mapped_column(String(128))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    step: Mapped[int] = mapped_column(default=0)
    steps: Mapped[int] = mapped_column(default=0)
    seconds_per_step: Mapped[float | None]
    loss: Mapped[float | None]
    losses: Mapped[list[float]] = mapped_column(JSON, default=list)
    error: Mapped[str | None] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    started: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended: Mapped[datetime | None] = mapped_column(UtcDateTime)
    result_id: Mapped[str | None] = mapped_column(String(32))
    concept: Mapped[ConceptRecord] = relationship(lazy="joined", innerjoin=True)
