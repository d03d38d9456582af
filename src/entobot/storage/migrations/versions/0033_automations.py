"""Rules of people over things, how they stand, and what they did."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_TIMED = sa.text("next_at_ms IS NOT NULL")
_DUE = sa.text("due_ms IS NOT NULL")
_OPEN = sa.text("ended_at_ms IS NULL")


def upgrade() -> None:
    _rules()
    _watches()
    _firings()
    _actions()


def _rules() -> None:
    op.create_table(
        "automations",
        sa.Column("automation_id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("is_on", sa.Integer(), nullable=False),
        sa.Column("why_off", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("made_by_device_id", sa.Text(), nullable=True),
        sa.Column("made_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("next_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("fired_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("fired", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_automations_user", "automations", ["user_id", "automation_id"])
    op.create_index("ix_automations_device", "automations", ["device_id"])
    op.create_index("ix_automations_type", "automations", ["type"])
    op.create_index("ix_automations_next", "automations", ["next_at_ms"], sqlite_where=_TIMED, postgresql_where=_TIMED)


def _watches() -> None:
    op.create_table(
        "automation_watches",
        sa.Column("automation_id", sa.Text(), primary_key=True),
        sa.Column("device_id", sa.Text(), primary_key=True),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
    )
    name = "ix_automation_watches_due"
    op.create_index(name, "automation_watches", ["due_ms"], sqlite_where=_DUE, postgresql_where=_DUE)


def _firings() -> None:
    op.create_table(
        "automation_firings",
        sa.Column("firing_id", sa.Text(), primary_key=True),
        sa.Column("automation_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("cause_key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.UniqueConstraint("automation_id", "cause_key", name="uq_automation_firings_cause"),
    )
    op.create_index("ix_automation_firings_rule", "automation_firings", ["automation_id", "firing_id"])
    op.create_index("ix_automation_firings_at", "automation_firings", ["at_ms"])


def _actions() -> None:
    op.create_table(
        "automation_actions",
        sa.Column("action_id", sa.Text(), primary_key=True),
        sa.Column("firing_id", sa.Text(), nullable=False),
        sa.Column("automation_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("made_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("approval_id", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_automation_actions_firing", "automation_actions", ["firing_id", "position"])
    op.create_index("ix_automation_actions_device", "automation_actions", ["device_id", "ended_at_ms"])
    name = "ix_automation_actions_open"
    op.create_index(name, "automation_actions", ["made_at_ms"], sqlite_where=_OPEN, postgresql_where=_OPEN)
