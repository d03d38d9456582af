"""The tables of MQTT: messages, sessions with their subscriptions and queues, retained messages."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from entobot.storage.database import metadata

BIG = BigInteger().with_variant(Integer, "sqlite")

messages = Table(
    "mqtt_messages",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("device_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("qos", Integer, nullable=False),
    Column("retain", Integer, nullable=False),
    Column("properties", LargeBinary),
    Column("at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Index("ix_mqtt_messages_device", "device_id", "id"),
)
sessions = Table(
    "mqtt_sessions",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("device_id", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("credential_id", Text, nullable=False, server_default=""),
    Column("node", Text),
    Column("connection", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("sent_seq", BigInteger, nullable=False),
    Column("expiry_s", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("will", LargeBinary),
    Column("will_at_ms", BigInteger),
    UniqueConstraint("device_id", "client_id", name="uq_mqtt_sessions_client"),
    Index("ix_mqtt_sessions_node", "node"),
    Index("ix_mqtt_sessions_expires", "expires_at_ms"),
    Index("ix_mqtt_sessions_will", "will_at_ms"),
)
subscriptions = Table(
    "mqtt_subscriptions",
    metadata,
    Column("session", BigInteger, primary_key=True, autoincrement=False),
    Column("share", Text, primary_key=True),
    Column("filter", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("qos", Integer, nullable=False),
    Column("no_local", Integer, nullable=False),
    Column("retain_as_published", Integer, nullable=False),
    Column("identifier", BigInteger),
    Index("ix_mqtt_subscriptions_scope", "scope"),
)
queue = Table(
    "mqtt_queue",
    metadata,
    Column("session", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("message", BigInteger, nullable=False),
    Column("qos", Integer, nullable=False),
    Column("retain", Integer, nullable=False),
    Column("identifiers", Text, nullable=False),
    Column("stage", Integer, nullable=False),
    Index("ix_mqtt_queue_message", "message"),
)
retained = Table(
    "mqtt_retained",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("device_id", Text, nullable=False),
    Column("message", BigInteger, nullable=False),
    Index("ix_mqtt_retained_scope", "scope"),
    Index("ix_mqtt_retained_device", "device_id"),
    Index("ix_mqtt_retained_message", "message"),
)
received = Table(
    "mqtt_received",
    metadata,
    Column("session", BigInteger, primary_key=True, autoincrement=False),
    Column("packet_id", Integer, primary_key=True, autoincrement=False),
)
bridges = Table(
    "mqtt_bridges",
    metadata,
    Column("name", Text, primary_key=True),
    Column("node", Text),
    Column("state", Text, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("filters", Text, nullable=False),
    Column("taken", BigInteger, nullable=False),
    Column("told", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("refused_why", Text, nullable=False),
    Column("refused_at_ms", BigInteger),
    Column("dropped", BigInteger, nullable=False),
)
bridge_outbox = Table(
    "mqtt_bridge_outbox",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("bridge", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("retain", Integer, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Index("ix_mqtt_bridge_outbox_bridge", "bridge", "id"),
)
