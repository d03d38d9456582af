"""Settings of every part in one table, by key; those of the agent move there."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    stored = op.create_table(
        "stored_settings",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
    )
    old = sa.table("agent_settings", sa.column("stored"), sa.column("updated_at_ms"))
    connection = op.get_bind()
    rows = [
        {"key": f"agent.{field}", "value": json.dumps(value), "changed_at_ms": updated_at_ms, "changed_by": ""}
        for text, updated_at_ms in connection.execute(sa.select(old.c.stored, old.c.updated_at_ms)).fetchall()
        for field, value in json.loads(text).items()
    ]
    if rows:
        connection.execute(sa.insert(stored), rows)
    op.drop_table("agent_settings")
