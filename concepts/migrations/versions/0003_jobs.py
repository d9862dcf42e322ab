"""The queue of trainings."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("concept_id", sa.String(32), sa.ForeignKey("concepts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("batch", sa.String(64)),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("columns", sa.JSON()),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("nice", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(128)),
        sa.Column("lease_until", sa.DateTime()),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Double()),
        sa.Column("losses", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("started", sa.DateTime()),
        sa.Column("ended", sa.DateTime()),
        sa.Column("result_id", sa.String(32)),
    )
    unfinished, queued, running = "state IN ('queued', 'running')", "state = 'queued'", "state = 'running'"
    _index("ix_jobs_unfinished", ["concept_id"], unfinished, unique=True)
    _index("ix_jobs_queued", ["nice", "created", "id"], queued)
    _index("ix_jobs_running", ["lease_until"], running)
    op.create_index("ix_jobs_newest", "jobs", ["created", "id"])
    op.create_index("ix_jobs_concept", "jobs", ["concept_id"])
    op.create_index("ix_jobs_batch", "jobs", ["batch"])


def _index(name: str, columns: list, where: str, unique: bool = False) -> None:
    """A partial index of the rows in some states."""
    condition = sa.text(where)
    op.create_index(name, "jobs", columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
