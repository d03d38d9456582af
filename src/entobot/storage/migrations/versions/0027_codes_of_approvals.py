"""Codes that decide on approvals by SMS."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "approval_codes",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("place_id", sa.Text(), nullable=False),
        sa.Column("action_sha256", sa.Text(), nullable=False),
        sa.Column("made_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ends_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("spent_at_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_approval_codes_user", "approval_codes", ["user_id", "made_at_ms"])
    op.create_index("ix_approval_codes_made", "approval_codes", ["made_at_ms"])
    op.create_table(
        "approval_code_guesses",
        sa.Column("user_id", sa.Text(), primary_key=True),
        sa.Column("begun_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("wrong", sa.Integer(), nullable=False),
    )
