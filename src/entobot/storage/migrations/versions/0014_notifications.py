"""Notifications, the attempts to deliver them, the places where people are reached, and their rules."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _attempts()
    _places()
    _rules()
    _notifications()
    op.create_index("ix_stream_cursors_user", "stream_cursors", ["user_id", "at_ms"])


def _attempts() -> None:
    op.create_table(
        "notification_attempts",
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("notification_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("place_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("made_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("node", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id"),
    )
    op.create_index("ix_notification_attempts_channel", "notification_attempts", ["channel", "ended_at_ms"])
    op.create_index("ix_notification_attempts_notification", "notification_attempts", ["notification_id", "attempt_id"])
    op.create_index(
        "ix_notification_attempts_queued",
        "notification_attempts",
        ["due_at_ms"],
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_notification_attempts_sent",
        "notification_attempts",
        ["node"],
        sqlite_where=sa.text("state = 'sent'"),
        postgresql_where=sa.text("state = 'sent'"),
    )


def _places() -> None:
    op.create_table(
        "notification_places",
        sa.Column("place_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("p256dh", sa.Text(), nullable=False),
        sa.Column("auth", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_confirmed", sa.Integer(), nullable=False),
        sa.Column("code_digest", sa.Text(), nullable=True),
        sa.Column("code_ends_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("code_tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ok_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_failed_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("place_id"),
    )
    op.create_index("ix_notification_places_address", "notification_places", ["channel", "address"])
    op.create_index("ix_notification_places_device", "notification_places", ["device_id"])
    op.create_index("ix_notification_places_user", "notification_places", ["user_id", "place_id"])


def _rules() -> None:
    op.create_table(
        "notification_rules",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
    )


def _notifications() -> None:
    op.create_table(
        "notifications",
        sa.Column("notification_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=True),
        sa.Column("collapse_key", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        sa.Column("is_told_by_event", sa.Integer(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("look_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("escalate_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("escalate_to", sa.Text(), nullable=True),
        sa.Column("escalated_from", sa.Text(), nullable=True),
        sa.Column("folded_into", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("notification_id"),
    )
    op.create_index(
        "ix_notifications_collapse",
        "notifications",
        ["user_id", "collapse_key"],
        unique=True,
        sqlite_where=sa.text("state = 'open' AND collapse_key <> ''"),
        postgresql_where=sa.text("state = 'open' AND collapse_key <> ''"),
    )
    op.create_index(
        "ix_notifications_due",
        "notifications",
        ["look_at_ms"],
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("ix_notifications_ended", "notifications", ["ended_at_ms"])
    op.create_index("ix_notifications_escalated", "notifications", ["escalated_from"])
    op.create_index(
        "ix_notifications_open",
        "notifications",
        ["user_id", "notification_id"],
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("ix_notifications_sender", "notifications", ["sender", "created_at_ms"])
    op.create_index("ix_notifications_user", "notifications", ["user_id", "notification_id"])
