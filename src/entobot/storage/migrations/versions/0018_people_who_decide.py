"""Who is asked for an approval and what each has answered; terms, numbers and times of approvals."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_UNCONSUMED = sa.text("state <> 'pending' AND consumed_at_ms IS NULL AND dropped_at_ms IS NULL")


def upgrade() -> None:
    _approvals()
    _askings()
    op.create_table(
        "approval_votes",
        sa.Column("approval_id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), primary_key=True),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("verified", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "approval_prompts",
        sa.Column("user_id", sa.Text(), primary_key=True),
        sa.Column("at_ms", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("approval_id", sa.Text(), primary_key=True),
    )
    op.create_index("ix_approval_prompts_at", "approval_prompts", ["at_ms"])


def _approvals() -> None:
    for name, kind in (
        ("terms", sa.Text()),
        ("remind_at_ms", sa.BigInteger()),
        ("escalate_at_ms", sa.BigInteger()),
        ("escalated_at_ms", sa.BigInteger()),
        ("asked_by_device_id", sa.Text()),
        ("number", sa.Text()),
        ("delivered_at_ms", sa.BigInteger()),
        ("consumed_at_ms", sa.BigInteger()),
        ("dropped_at_ms", sa.BigInteger()),
        ("warned_at_ms", sa.BigInteger()),
    ):
        op.add_column("approvals", sa.Column(name, kind, nullable=True))
    op.add_column("approvals", sa.Column("wrong_numbers", sa.BigInteger(), nullable=False, server_default="0"))
    # Whether what was decided before was taken up is not known; nobody shall be warned of it.
    op.execute(
        "UPDATE approvals SET consumed_at_ms = decided_at_ms WHERE state IN ('approved', 'denied', 'expired') "
        "AND NOT EXISTS (SELECT 1 FROM tool_calls WHERE tool_calls.approval_id = approvals.approval_id "
        "AND tool_calls.state = 'waiting')"
    )
    op.execute("UPDATE approvals SET dropped_at_ms = decided_at_ms WHERE state = 'cancelled'")
    op.create_index(
        "ix_approvals_unconsumed",
        "approvals",
        ["decided_at_ms"],
        sqlite_where=_UNCONSUMED,
        postgresql_where=_UNCONSUMED,
    )


def _askings() -> None:
    op.create_table(
        "approval_askings",
        sa.Column("approval_id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), primary_key=True),
        sa.Column("may_decide", sa.Integer(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("prompt_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("prompts", sa.Integer(), nullable=False),
    )
    op.create_index("ix_approval_askings_user", "approval_askings", ["user_id", "approval_id"])
    op.create_index(
        "ix_approval_askings_prompt",
        "approval_askings",
        ["prompt_at_ms"],
        sqlite_where=sa.text("prompt_at_ms IS NOT NULL"),
        postgresql_where=sa.text("prompt_at_ms IS NOT NULL"),
    )
    op.execute(
        "INSERT INTO approval_askings (approval_id, user_id, may_decide, since_ms, prompts) "
        "SELECT approval_id, user_id, 1, created_at_ms, 1 FROM approvals"
    )
