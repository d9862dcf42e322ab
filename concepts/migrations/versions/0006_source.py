"""The concept on whose pictures a variant is trained; the copies that variants had until now are left as they are."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # In SQL of its own, since Alembic would add the reference by itself, which SQLite cannot
    op.execute("ALTER TABLE concepts ADD COLUMN source_id VARCHAR(32) REFERENCES concepts (id)")
    op.create_index("ix_concepts_source", "concepts", ["source_id"])
