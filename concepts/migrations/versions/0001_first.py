"""Concepts, their pictures, their columns and their results."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _of_concept() -> sa.Column[str]:
    return sa.Column("concept_id", sa.String(32), sa.ForeignKey("concepts.id", ondelete="CASCADE"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "concepts",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("key", sa.String(40), nullable=False, unique=True),
        sa.Column("class_word", sa.String(40), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.String(32), primary_key=True),
        _of_concept(),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.UniqueConstraint("concept_id", "position"),
    )
    op.create_table(
        "columns",
        sa.Column("id", sa.String(32), primary_key=True),
        _of_concept(),
        sa.Column("base", sa.String(128), nullable=False, index=True),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.UniqueConstraint("concept_id", "base"),
    )
    op.create_table(
        "results",
        sa.Column("id", sa.String(32), primary_key=True),
        _of_concept(),
        sa.Column("base", sa.String(128), nullable=False),
        sa.Column("adapter", sa.String(40), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.Integer(), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("concept_id"),
    )
