"""Messages by SMS, numbers that said STOP, receipts that were taken; how often an invite was sent."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _messages()
    op.create_table(
        "sms_stopped",
        sa.Column("number_mark", sa.Text(), primary_key=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "sms_receipts",
        sa.Column("receipt_key", sa.Text(), primary_key=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_sms_receipts_at", "sms_receipts", ["at_ms"])
    op.add_column("pairing_invites", sa.Column("sends", sa.BigInteger()))
    op.add_column("pairing_invites", sa.Column("sent_at_ms", sa.BigInteger()))


def _messages() -> None:
    op.create_table(
        "sms_messages",
        sa.Column("message_id", sa.Text(), primary_key=True),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("number_mark", sa.Text(), nullable=False),
        sa.Column("number_hint", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("sealed_number", sa.LargeBinary()),
        sa.Column("sealed_text", sa.LargeBinary()),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("made_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("send_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
    )
    op.create_index("ix_sms_messages_made_at", "sms_messages", ["made_at_ms"])
    op.create_index("ix_sms_messages_number", "sms_messages", ["number_mark", "made_at_ms"])
    op.create_index("ix_sms_messages_state", "sms_messages", ["state", "due_at_ms"])
    op.create_index("ix_sms_messages_subject", "sms_messages", ["subject", "made_at_ms"])
