"""Searching the audit log: an index for each thing that is asked for, in the order of the entries."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = {
    "actor_device": "actor_device",
    "actor_user": "actor_user",
    "at": "at_ms",
    "event": "event",
    "outcome": "outcome",
    "subject": "subject",
}


def upgrade() -> None:
    op.drop_index("ix_audit_log_subject", table_name="audit_log")
    for name, column in COLUMNS.items():
        op.create_index(f"ix_audit_log_{name}", "audit_log", [column, "seq"])
