"""Captions of pictures, and whether a picture has a loss mask."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("images", sa.Column("caption", sa.Text(), nullable=True))
    op.add_column("images", sa.Column("masked", sa.Boolean(), nullable=False, server_default=sa.false()))
