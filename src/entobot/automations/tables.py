"""The tables of automations."""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint

from entobot.storage.database import metadata
from entobot.storage.partial_index import partial_index

automations = Table(
    "automations",
    metadata,
    Column("automation_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("is_on", Integer, nullable=False),
    Column("why_off", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("made_by_device_id", Text),
    Column("made_at_ms", BigInteger, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
    Column("device_id", Text),
    Column("type", Text),
    Column("next_at_ms", BigInteger),
    Column("fired_at_ms", BigInteger),
    Column("fired", BigInteger, nullable=False),
    Index("ix_automations_user", "user_id", "automation_id"),
    Index("ix_automations_device", "device_id"),
    Index("ix_automations_type", "type"),
    partial_index("ix_automations_next", "next_at_ms", where="next_at_ms IS NOT NULL"),
)
watches = Table(
    "automation_watches",
    metadata,
    Column("automation_id", Text, primary_key=True),
    Column("device_id", Text, primary_key=True),
    Column("phase", Text, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger),
    Column("seen_ms", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
    partial_index("ix_automation_watches_due", "due_ms", where="due_ms IS NOT NULL"),
)
firings = Table(
    "automation_firings",
    metadata,
    Column("firing_id", Text, primary_key=True),
    Column("automation_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    # The cause: a rule fires once for it, however many nodes see it.
    Column("cause_key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("depth", Integer, nullable=False),
    UniqueConstraint("automation_id", "cause_key", name="uq_automation_firings_cause"),
    Index("ix_automation_firings_rule", "automation_id", "firing_id"),
    Index("ix_automation_firings_at", "at_ms"),
)
actions = Table(
    "automation_actions",
    metadata,
    Column("action_id", Text, primary_key=True),
    Column("firing_id", Text, nullable=False),
    Column("automation_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("device_id", Text),
    Column("approval_id", Text),
    Column("outcome", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("ended_at_ms", BigInteger),
    Index("ix_automation_actions_firing", "firing_id", "position"),
    Index("ix_automation_actions_device", "device_id", "ended_at_ms"),
    partial_index("ix_automation_actions_open", "made_at_ms", where="ended_at_ms IS NULL"),
)
