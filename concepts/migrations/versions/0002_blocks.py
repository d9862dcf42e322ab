"""Basis rows beside singular columns, and concepts that are removed but not permanently."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("concepts", sa.Column("removed", sa.DateTime(), nullable=True))
    # A new table, renamed afterwards, since SQLite cannot change a unique constraint
    op.create_table(
        "blocks",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("concept_id", sa.String(32), sa.ForeignKey("concepts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("base", sa.String(128), nullable=False),
        sa.Column("space", sa.String(8), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.UniqueConstraint("concept_id", "base", "space"),
    )
    op.execute(
        "INSERT INTO blocks (id, concept_id, base, space, start, width) SELECT id, concept_id, base, "
        "CASE WHEN concept_id IN (SELECT concept_id FROM results WHERE adapter = 'orthogonal') "
        "THEN 'rows' ELSE 'columns' END, start, width FROM columns"
    )
    op.drop_table("columns")
    op.rename_table("blocks", "columns")
    op.create_index("ix_columns_base", "columns", ["base"])
