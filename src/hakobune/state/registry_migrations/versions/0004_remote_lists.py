"""Lists that remote repositories have read from their upstreams: an image's tags, a manifest's referrers."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "remote_list",
        sa.Column("repository", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("image", NAME, primary_key=True),
        sa.Column("name", NAME, primary_key=True),  # tags, or referrers/DIGEST
        sa.Column("document", NAME, nullable=False),  # JSON; "" for none
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("negative_until", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
