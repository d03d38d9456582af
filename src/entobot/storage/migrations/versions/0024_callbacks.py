"""Webhooks to programs that asked something."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "callbacks",
        sa.Column("callback_id", sa.Text(), primary_key=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("next_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_callbacks_subject", "callbacks", ["subject"], unique=True)
    op.create_index("ix_callbacks_user", "callbacks", ["user_id", "callback_id"])
    op.create_index("ix_callbacks_created", "callbacks", ["created_at_ms"])
    for name, column, state in (("due", "next_at_ms", "due"), ("sending", "callback_id", "sending")):
        where = sa.text(f"state = '{state}'")
        op.create_index(f"ix_callbacks_{name}", "callbacks", [column], sqlite_where=where, postgresql_where=where)
