"""Lists that a remote repository has read from its upstream, in the database: an image's tags, a manifest's referrers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hakobune.registry.repository import Repository
from hakobune.state.sql import Sql, Transaction

TAGS = "tags"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteList:
    """A list as the upstream had it. Times are microseconds since 1970.

    Attributes:
        items: `None` if the upstream never had one.
    """

    items: tuple[Any, ...] | None
    checked_at: int
    negative_until: int = 0


NOTHING_KNOWN = RemoteList(items=None, checked_at=0)


def referrers_of(digest: str) -> str:
    """The name under which the referrers of a manifest are kept."""
    return f"referrers/{digest}"


async def find_remote_list(sql: Sql, repository: Repository, image: str, name: str) -> RemoteList:
    """What is known."""
    row = await sql.fetch_row(
        "SELECT document, checked_at, negative_until FROM remote_list "
        "WHERE repository = $1 AND image = $2 AND name = $3",
        repository.id,
        image,
        name,
    )
    if row is None:
        return NOTHING_KNOWN
    items = tuple(json.loads(row[0])) if row[0] else None
    return RemoteList(items=items, checked_at=row[1], negative_until=row[2])


async def save_remote_list(
    sql: Sql, repository: Repository, image: str, name: str, known: RemoteList
) -> None:
    """Remember what the upstream has said; need not survive a power loss."""
    document = "" if known.items is None else json.dumps(list(known.items), ensure_ascii=False)

    async def work(transaction: Transaction) -> None:
        await transaction.execute(
            "INSERT INTO remote_list (repository, image, name, document, checked_at, negative_until) "
            "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (repository, image, name) DO UPDATE "
            "SET document = excluded.document, checked_at = excluded.checked_at, "
            "negative_until = excluded.negative_until",
            repository.id,
            image,
            name,
            document,
            known.checked_at,
            known.negative_until,
        )

    await sql.transact(work, durable=False)
