"""What only Artifact Registry's API keeps: operations, annotations, settings of a project, secrets' versions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "artifact_operation",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("parent", NAME, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("document", NAME, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("artifact_operation_parent", "artifact_operation", ["parent", "created_at"])
    op.create_table(
        "artifact_annotations",
        sa.Column("repository", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("resource", NAME, primary_key=True),
        sa.Column("annotations", NAME, nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "artifact_project",
        sa.Column("project", NAME, primary_key=True),
        sa.Column("settings", NAME, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "secret_version",
        sa.Column("project", NAME, primary_key=True),
        sa.Column("secret", NAME, primary_key=True),
        sa.Column("version", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("sealed", sa.LargeBinary, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
