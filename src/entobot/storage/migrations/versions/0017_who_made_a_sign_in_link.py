"""Who made a sign-in link, and through what."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Links live for an hour; of those that there are nobody can tell whether their maker still may make them."""
    op.execute(sa.delete(sa.table("sign_in_links")))
    for name in ("maker_user_id", "maker_session_id", "maker_device_id", "maker_thumbprint", "maker_scopes"):
        op.add_column("sign_in_links", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("sign_in_links", sa.Column("maker_epoch", sa.BigInteger(), nullable=True))
    op.create_index("ix_sign_in_links_maker", "sign_in_links", ["maker_user_id"])
