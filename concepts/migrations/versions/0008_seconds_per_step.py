"""How long a step of a running job takes, measured by its worker, for the time that is left."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("seconds_per_step", sa.Double()))
