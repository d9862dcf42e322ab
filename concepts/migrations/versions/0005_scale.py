"""Changes for a million concepts: owners, indices for pages and names, counts of blocks, noted orphans."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("concepts", sa.Column("owner", sa.String(64), nullable=False, server_default=""))
    if op.get_bind().dialect.name == "postgresql":  # else it sorts by locale, where a prefix is no range
        op.alter_column("concepts", "key", type_=sa.String(40, collation="C"), existing_type=sa.String(40))
    _index("ix_concepts_page", ["created", "id"], "removed IS NULL")
    _index("ix_concepts_owner", ["owner", "created", "id"], "removed IS NULL")
    _index("ix_concepts_removed", ["removed"], "removed IS NOT NULL")
    op.drop_index("ix_columns_base", "columns")
    op.create_index("ix_columns_block", "columns", ["base", "space", "start", "width"])
    op.create_table(
        "column_uses",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("base", sa.String(128), nullable=False),
        sa.Column("space", sa.String(8), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("holders", sa.Integer(), nullable=False),
        sa.UniqueConstraint("base", "space", "start", "width"),
    )
    op.execute(
        "INSERT INTO column_uses (id, base, space, start, width, holders) "
        "SELECT min(id), base, space, start, width, count(*) FROM columns GROUP BY base, space, start, width"
    )
    op.create_table(
        "leftovers",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("place", sa.String(80), nullable=False, unique=True),
        sa.Column("since", sa.DateTime(), nullable=False, index=True),
    )


def _index(name: str, columns: list[str], where: str) -> None:
    """A partial index of the concepts."""
    condition = sa.text(where)
    op.create_index(name, "concepts", columns, sqlite_where=condition, postgresql_where=condition)
