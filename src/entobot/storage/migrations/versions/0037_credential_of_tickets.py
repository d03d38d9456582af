"""With which API key a ticket was asked for: its connection ends with that."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ws_tickets", sa.Column("credential_id", sa.Text(), nullable=False, server_default=""))
