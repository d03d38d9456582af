"""Several API keys of one device, what it is, and keys that enrol devices."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    named = {"uq": "%(table_name)s_%(column_0_name)s_key"}  # as PostgreSQL called it
    with op.batch_alter_table("device_api_keys", naming_convention=named) as table:
        table.drop_constraint("device_api_keys_device_id_key", type_="unique")
        table.add_column(sa.Column("last_used_at_ms", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("revoked_at_ms", sa.BigInteger(), nullable=True))
    op.create_index("ix_device_api_keys_device", "device_api_keys", ["device_id"])
    for name in ("device_type", "tags"):
        op.add_column("devices", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "enrolment_keys",
        sa.Column("key_id", sa.Text(), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("device_type", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("key_life_s", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("alert_at_ms", sa.BigInteger(), nullable=True),
    )
    op.create_index("ix_enrolment_keys_user", "enrolment_keys", ["user_id"])
    op.create_table(
        "enrolments",
        sa.Column("device_id", sa.Text(), primary_key=True),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("nonce_digest", sa.Text(), nullable=False),
        sa.Column("hardware_id", sa.Text(), nullable=False),
        sa.Column("enrolled_at_ms", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("key_id", "nonce_digest", name="uq_enrolments_nonce"),
    )
