"""Notes, to-dos and reminders."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_DUE = sa.text("due_at_ms IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "memos",
        sa.Column("memo_id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_memos_user", "memos", ["user_id", "kind", "created_at_ms"])
    op.create_index("ix_memos_due", "memos", ["due_at_ms"], sqlite_where=_DUE, postgresql_where=_DUE)
