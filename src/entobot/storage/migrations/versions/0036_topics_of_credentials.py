"""Topics that keys are limited to, and with which credential a session of MQTT was opened."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, name in (
        ("device_api_keys", "topics"),
        ("enrolment_keys", "topics"),
        ("mqtt_sessions", "credential_id"),
    ):
        op.add_column(table, sa.Column(name, sa.Text(), nullable=False, server_default=""))
