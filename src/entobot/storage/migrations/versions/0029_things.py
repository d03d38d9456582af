"""Types, state, history and commands of things."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_WAITING = sa.text("ended_at_ms IS NULL")


def upgrade() -> None:
    _things()
    _history()
    _commands()


def _things() -> None:
    op.create_table(
        "thing_types",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "things",
        sa.Column("device_id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("heard_ms", sa.BigInteger(), nullable=True),
        sa.Column("stale_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("offline_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("every_s", sa.Integer(), nullable=True),
        sa.Column("firmware", sa.Text(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("refused_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("refused_why", sa.Text(), nullable=False),
    )
    op.create_index("ix_things_user", "things", ["user_id", "device_id"])
    op.create_table(
        "thing_series",
        sa.Column("series", _BIG, primary_key=True, autoincrement=True),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("number", sa.Float(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("device_id", "name", name="uq_thing_series_name"),
    )


def _history() -> None:
    op.create_table(
        "thing_readings",
        sa.Column("series", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.Float(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "thing_hours",
        sa.Column("series", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("start_ms", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("high", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "thing_batches",
        sa.Column("device_id", sa.Text(), primary_key=True),
        sa.Column("batch", sa.Text(), primary_key=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_thing_batches_at", "thing_batches", ["at_ms"])


def _commands() -> None:
    op.create_table(
        "thing_events",
        sa.Column("id", _BIG, primary_key=True, autoincrement=True),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_thing_events_device", "thing_events", ["device_id", "id"])
    op.create_table(
        "thing_commands",
        sa.Column("command_id", sa.Text(), primary_key=True),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("args", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("made_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("accepted_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
    )
    op.create_index("ix_thing_commands_device", "thing_commands", ["device_id", "command_id"])
    op.create_index(
        "ix_thing_commands_waiting",
        "thing_commands",
        ["expires_at_ms"],
        sqlite_where=_WAITING,
        postgresql_where=_WAITING,
    )
