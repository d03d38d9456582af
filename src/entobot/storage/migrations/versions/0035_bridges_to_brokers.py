"""Brokers elsewhere that the gateway connects to, and what waits for them."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mqtt_bridges",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("filters", sa.Text(), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("refused_why", sa.Text(), nullable=False),
        sa.Column("refused_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
    )
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "mqtt_bridge_outbox",
        sa.Column("id", big, primary_key=True, autoincrement=True),
        sa.Column("bridge", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("retain", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_mqtt_bridge_outbox_bridge", "mqtt_bridge_outbox", ["bridge", "id"])
