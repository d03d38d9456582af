"""Keys of model providers, sealed, and what the last try of each said."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "model_providers",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("sealed_key", sa.LargeBinary()),
        sa.Column("key_set_at_ms", sa.BigInteger()),
        sa.Column("tested_at_ms", sa.BigInteger()),
        sa.Column("test_result", sa.Text()),
    )
