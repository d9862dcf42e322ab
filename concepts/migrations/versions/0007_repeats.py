"""How often each picture counts in training, kohya's repeats; once until now."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("images", sa.Column("repeats", sa.Integer(), nullable=False, server_default="1"))
