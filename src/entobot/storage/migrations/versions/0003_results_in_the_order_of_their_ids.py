"""Results of commands in the order of their ids."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("command_results_pkey", "command_results", type_="primary")
        op.create_primary_key("command_results_pkey", "command_results", ["command_id", "device_id"])
        return
    op.drop_index("ix_command_results_at", "command_results")
    op.rename_table("command_results", "command_results_before")
    op.create_table(
        "command_results",
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("command_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("command_id", "device_id"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO command_results (device_id, command_id, digest, result, at_ms)"
        " SELECT device_id, command_id, digest, result, at_ms FROM command_results_before ORDER BY command_id"
    )
    op.drop_table("command_results_before")
    op.create_index("ix_command_results_at", "command_results", ["at_ms"])
