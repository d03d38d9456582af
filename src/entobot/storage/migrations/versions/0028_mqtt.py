"""Messages, sessions, queues and retained messages of MQTT."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _messages()
    _sessions()
    _queues()


def _messages() -> None:
    op.create_table(
        "mqtt_messages",
        sa.Column("id", _BIG, primary_key=True, autoincrement=True),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("qos", sa.Integer(), nullable=False),
        sa.Column("retain", sa.Integer(), nullable=False),
        sa.Column("properties", sa.LargeBinary(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_mqtt_messages_device", "mqtt_messages", ["device_id", "id"])
    op.create_table(
        "mqtt_retained",
        sa.Column("topic", sa.Text(), primary_key=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("message", sa.BigInteger(), nullable=False),
    )
    for name, column in (("scope", "scope"), ("device", "device_id"), ("message", "message")):
        op.create_index(f"ix_mqtt_retained_{name}", "mqtt_retained", [column])


def _sessions() -> None:
    op.create_table(
        "mqtt_sessions",
        sa.Column("id", _BIG, primary_key=True, autoincrement=True),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("connection", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("sent_seq", sa.BigInteger(), nullable=False),
        sa.Column("expiry_s", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("will", sa.LargeBinary(), nullable=True),
        sa.Column("will_at_ms", sa.BigInteger(), nullable=True),
        sa.UniqueConstraint("device_id", "client_id", name="uq_mqtt_sessions_client"),
    )
    for name, column in (("node", "node"), ("expires", "expires_at_ms"), ("will", "will_at_ms")):
        op.create_index(f"ix_mqtt_sessions_{name}", "mqtt_sessions", [column])
    op.create_table(
        "mqtt_subscriptions",
        sa.Column("session", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("share", sa.Text(), primary_key=True),
        sa.Column("filter", sa.Text(), primary_key=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("qos", sa.Integer(), nullable=False),
        sa.Column("no_local", sa.Integer(), nullable=False),
        sa.Column("retain_as_published", sa.Integer(), nullable=False),
        sa.Column("identifier", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_mqtt_subscriptions_scope", "mqtt_subscriptions", ["scope"])


def _queues() -> None:
    op.create_table(
        "mqtt_queue",
        sa.Column("session", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("message", sa.BigInteger(), nullable=False),
        sa.Column("qos", sa.Integer(), nullable=False),
        sa.Column("retain", sa.Integer(), nullable=False),
        sa.Column("identifiers", sa.Text(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
    )
    op.create_index("ix_mqtt_queue_message", "mqtt_queue", ["message"])
    op.create_table(
        "mqtt_received",
        sa.Column("session", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("packet_id", sa.Integer(), primary_key=True, autoincrement=False),
    )
