"""The tables of things."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, Table, Text, UniqueConstraint

from entobot.storage.database import metadata
from entobot.storage.partial_index import partial_index

BIG = BigInteger().with_variant(Integer, "sqlite")

types = Table(
    "thing_types",
    metadata,
    Column("name", Text, primary_key=True),
    Column("body", Text, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
)
things = Table(
    "things",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("type", Text),
    Column("status", Text, nullable=False),
    Column("status_at_ms", BigInteger, nullable=False),
    Column("heard_ms", BigInteger),
    Column("stale_at_ms", BigInteger),
    Column("offline_at_ms", BigInteger),
    Column("every_s", Integer),
    Column("firmware", Text, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("refused_at_ms", BigInteger),
    Column("refused_why", Text, nullable=False),
    Index("ix_things_user", "user_id", "device_id"),
)
series = Table(
    "thing_series",
    metadata,
    Column("series", BIG, primary_key=True, autoincrement=True),
    Column("device_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("number", Float),
    Column("text", Text),
    Column("at_ms", BigInteger, nullable=False),
    UniqueConstraint("device_id", "name", name="uq_thing_series_name"),
)
readings = Table(
    "thing_readings",
    metadata,
    Column("series", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Float),
    Column("text", Text),
    sqlite_with_rowid=False,
)
hours = Table(
    "thing_hours",
    metadata,
    Column("series", BigInteger, primary_key=True, autoincrement=False),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    Column("total", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    sqlite_with_rowid=False,
)
batches = Table(
    "thing_batches",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("batch", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_thing_batches_at", "at_ms"),
)
events = Table(
    "thing_events",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("device_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("ix_thing_events_device", "device_id", "id"),
)
commands = Table(
    "thing_commands",
    metadata,
    Column("command_id", Text, primary_key=True),
    Column("device_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("args", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("accepted_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    Column("result", Text),
    Column("error", Text, nullable=False),
    Index("ix_thing_commands_device", "device_id", "command_id"),
    partial_index("ix_thing_commands_waiting", "expires_at_ms", where="ended_at_ms IS NULL"),
)
