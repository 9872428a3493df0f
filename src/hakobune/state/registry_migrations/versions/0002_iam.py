"""Policies, service accounts with their keys, groups, the keys that sign tokens, and logins of docker.

Times are microseconds since 1970. No secret is here: signing keys follow from a salt and the master key on disk,
a login is the digest of its token, an account's key the digest of its private half.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Sorted and compared by bytes on every database.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, NAME, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, NUMBER, nullable=False)


def _key(name: str) -> "sa.Column[str]":
    return sa.Column(name, NAME, primary_key=True)


def upgrade() -> None:
    revisions = op.create_table("iam_revision", _number("value"))
    op.bulk_insert(revisions, [{"value": 1}])
    op.create_table("iam_policy", _key("resource"), _text("bindings"), _number("revision"))
    op.create_table(
        "iam_account",
        _key("email"),
        *(_text(n) for n in ("project", "unique_id", "display_name", "description")),
        _number("disabled"),
        _number("created_at"),
    )
    op.create_index("iam_account_project", "iam_account", ["project", "email"])
    op.create_table(
        "iam_key",
        _key("id"),
        *(_text(n) for n in ("email", "algorithm", "public_key", "private_digest")),
        _number("disabled"),
        _number("created_at"),
        _number("expires_at"),
    )
    op.create_index("iam_key_email", "iam_key", ["email"])
    op.create_table(
        "iam_group",
        _key("email"),
        _text("display_name"),
        _text("description"),
        _number("created_at"),
    )
    op.create_table("iam_group_member", _key("group_email"), _key("member"), _number("added_at"))
    op.create_index("iam_group_member_member", "iam_group_member", ["member"])
    op.create_table(
        "iam_signing_key",
        _key("id"),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        _number("created_at"),
        _number("retired_at"),
    )
    op.create_table(
        "iam_login",
        _key("digest"),
        _text("principal"),
        _text("key_id"),
        _number("created_at"),
        _number("expires_at"),
    )
    op.create_index("iam_login_key", "iam_login", ["key_id"])
