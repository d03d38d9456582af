"""Which sessions, passkeys and authenticator apps rest on a password alone."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("sessions", "passkeys", "authenticators"):
        op.add_column(table, sa.Column("rests_on_password", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE sessions SET rests_on_password = 1 WHERE method = 'password'")
