"""People sign in under a login of their own, and may be disabled."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("login", sa.Text()))
    op.add_column("users", sa.Column("disabled_at_ms", sa.BigInteger()))
    op.execute("UPDATE users SET login = lower(user_id)")
    op.execute(
        "UPDATE users SET login = 'owner' WHERE user_id ="
        " (SELECT user_id FROM users WHERE role = 'owner' ORDER BY created_at_ms, user_id LIMIT 1)"
    )
    with op.batch_alter_table("users") as table:
        table.alter_column("login", existing_type=sa.Text(), nullable=False)
    op.create_index("ix_users_login", "users", ["login"], unique=True)
