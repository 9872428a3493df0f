"""What a remote repository knows of its upstream's tags: which digest each had, when that was asked, and which were not there."""

from __future__ import annotations

from dataclasses import dataclass

from hakobune.registry.repository import Repository
from hakobune.registry.rows import Rows
from hakobune.state.sql import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTag:
    """A tag as the upstream had it at `checked_at`. Times are microseconds since 1970."""

    digest: str  # "": never seen there
    etag: str = ""
    checked_at: int
    negative_until: int = 0  # for so long it is not asked again, since it was not there


class RemoteRows(Rows):
    """The part of `Metadata` about remote repositories."""

    async def find_remote_tag(
        self, repository: Repository, image: str, tag: str
    ) -> RemoteTag | None:
        """What is known of a reference (a tag, or a digest that the upstream did not have)."""
        row = await self.sql.fetch_row(
            "SELECT digest, etag, checked_at, negative_until FROM remote_tag "
            "WHERE repository = $1 AND image = $2 AND name = $3",
            repository.id,
            image,
            tag,
        )
        if row is None:
            return None
        return RemoteTag(digest=row[0], etag=row[1], checked_at=row[2], negative_until=row[3])

    async def save_remote_tag(
        self, repository: Repository, image: str, tag: str, known: RemoteTag
    ) -> None:
        """Remember what the upstream has said; need not survive a power loss."""

        async def work(transaction: Transaction) -> None:
            await transaction.execute(
                "INSERT INTO remote_tag (repository, image, name, digest, etag, checked_at, negative_until) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (repository, image, name) DO UPDATE "
                "SET digest = excluded.digest, etag = excluded.etag, checked_at = excluded.checked_at, "
                "negative_until = excluded.negative_until",
                repository.id,
                image,
                tag,
                known.digest,
                known.etag,
                known.checked_at,
                known.negative_until,
            )

        await self.sql.transact(work, durable=False)

    async def forget_remote_tag(self, repository: Repository, image: str, tag: str) -> None:
        """Ask the upstream anew next time."""

        async def work(transaction: Transaction) -> None:
            await transaction.execute(
                "DELETE FROM remote_tag WHERE repository = $1 AND image = $2 AND name = $3",
                repository.id,
                image,
                tag,
            )

        await self.sql.transact(work, durable=False)
