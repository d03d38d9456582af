"""Questions that programs put to people."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "questions",
        sa.Column("question_id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("asked_by_user_id", sa.Text(), nullable=False),
        sa.Column("asked_by_device_id", sa.Text(), nullable=True),
        sa.Column("asker_key", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("closed_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("closed_by_device_id", sa.Text(), nullable=True),
    )
    op.create_index("ix_questions_user", "questions", ["user_id", "question_id"])
    op.create_index("ix_questions_asker", "questions", ["asked_by_user_id", "question_id"])
    op.create_index("ix_questions_key", "questions", ["asker_key"], unique=True)
    is_open = sa.text("state = 'open'")
    op.create_index("ix_questions_open", "questions", ["expires_at_ms"], sqlite_where=is_open, postgresql_where=is_open)
