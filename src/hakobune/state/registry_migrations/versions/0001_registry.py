"""Repositories, manifests, tags, blobs, uploads and what was done to them.

Times are microseconds since 1970, truths 0 and 1, documents JSON in a text. A blob's state: 0 live, 1 doomed,
2 deleting, 3 quarantined (`hakobune.registry.metadata_blobs`).
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Sorted and compared by bytes on every database.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger()
# What SQLite gives numbers to by itself has to be called so.
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, NAME, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, NUMBER, nullable=False)


def _key(name: str, type_: "sa.types.TypeEngine[Any]" = NAME) -> "sa.Column[Any]":
    return sa.Column(name, type_, primary_key=True, autoincrement=False)


def _index_few(name: str, table: str, columns: list[str], where: str) -> None:
    """An index of few rows: what an ordinary push writes is in none but the primary keys, as far as that goes."""
    few = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=few, postgresql_where=few)


def upgrade() -> None:
    op.create_table(
        "repository",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True),
        *(_text(n) for n in ("project", "location", "name", "mode", "format", "description")),
        _text("labels"),
        _number("immutable_tags"),
        _text("config"),
        _text("cleanup_policies"),
        _number("cleanup_dry_run"),
        _number("cleaned_at"),
        _number("created_at"),
        _number("updated_at"),
        _text("etag"),
        sa.UniqueConstraint("project", "name"),
        sqlite_autoincrement=True,  # an id is never given twice
    )
    op.create_table(
        "manifest",
        _key("repository", NUMBER),
        _key("image"),
        _key("digest"),
        *(_text(n) for n in ("media_type", "artifact_type", "config_media_type", "config_digest")),
        _text("subject"),
        _number("size"),
        _number("image_size"),
        sa.Column("body", sa.LargeBinary, nullable=False),
        _text("annotations"),
        _number("created_at"),
        _number("pushed_at"),
        _number("pulled_at"),
        _number("built_at"),
        _text("pushed_by"),
    )
    _index_few("manifest_subject", "manifest", ["repository", "image", "subject"], "subject <> ''")
    # The keeper's list of what to read.
    _index_few(
        "manifest_unread", "manifest", ["repository"], "built_at = 0 AND config_digest <> ''"
    )
    op.create_table(
        "manifest_ref",
        _key("repository", NUMBER),
        _key("image"),
        _key("parent"),
        _key("child"),
        _text("kind"),
        _text("platform"),
        sqlite_with_rowid=False,
    )
    op.create_index("manifest_ref_child", "manifest_ref", ["child"])
    op.create_table(
        "tag",
        _key("repository", NUMBER),
        _key("image"),
        _key("name"),
        _text("digest"),
        _number("created_at"),
        _number("updated_at"),
        sqlite_with_rowid=False,
    )
    op.create_index("tag_digest", "tag", ["repository", "image", "digest"])
    op.create_table(
        "tag_history",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True),
        _number("repository"),
        *(_text(n) for n in ("image", "name", "digest")),
        _number("at"),
        _text("actor"),
    )
    op.create_index("tag_history_name", "tag_history", ["repository", "image", "name"])
    op.create_table(
        "blob",
        _key("digest"),
        _number("size"),
        _text("storage_key"),
        _number("state"),
        _number("state_at"),
        _number("leased_at"),
        _number("verified_at"),
        _number("created_at"),
        sqlite_with_rowid=False,
    )
    _index_few("blob_not_live", "blob", ["state", "digest"], "state <> 0")
    op.create_table(
        "repository_blob",
        _key("repository", NUMBER),
        _key("digest"),
        _number("size"),
        _number("linked_at"),
        sqlite_with_rowid=False,
    )
    op.create_index("repository_blob_digest", "repository_blob", ["digest"])
    op.create_table(
        "upload",
        _key("id"),
        _number("repository"),
        _text("image"),
        _number("received"),
        sa.Column("hash_state", sa.LargeBinary, nullable=True),
        _text("algorithm"),
        _text("actor"),
        _text("extra"),
        _number("created_at"),
        _number("touched_at"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "remote_tag",
        _key("repository", NUMBER),
        _key("image"),
        _key("name"),
        _text("digest"),
        _text("etag"),
        _number("checked_at"),
        _number("negative_until"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quota",
        _key("resource"),
        _number("limit_bytes"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True),
        _number("at"),
        *(_text(n) for n in ("actor", "verb", "resource", "detail")),
    )
    # Locked, never written: how PostgreSQL's transactions wait for each other (`state.postgresql`).
    op.create_table("registry_writers", sa.Column("id", NUMBER, primary_key=True))
