"""Blobs in the database: where each lies, which repositories link it, and the lease that keeps the collector away.

The lease rule: every answer that promises a blob (it is there, it was stored, it was mounted, a manifest names it)
makes its row live and sets its lease to now, in the transaction of its own change; not if the lease is younger than
a quarter of the collector's grace, so that pulls write nothing. `collect` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hakobune.registry import repository as repository_rows
from hakobune.registry.blobs import BlobVanishedError
from hakobune.registry.errors import RegistryError
from hakobune.registry.manifest import Child
from hakobune.registry.quota import check_quota
from hakobune.registry.repository import Repository
from hakobune.registry.rows import Rows, image_resource, name_unknown, padded, places
from hakobune.state.audit import record
from hakobune.state.errors import DatabaseError
from hakobune.state.sql import Transaction

LIVE: Final = 0
DOOMED: Final = 1  # nothing names it and its lease has run out
DELETING: Final = 2  # its file may be gone
QUARANTINED: Final = 3  # its bytes were wrong
_PROMISED: Final = "SELECT 1 FROM blob WHERE digest = $1 AND state <= 1"


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that is there. A cache may answer with it up to `promised_until` (microseconds since 1970), not later."""

    digest: str
    size: int
    storage_key: str
    promised_until: int


class BlobRows(Rows):
    """The part of `Metadata` about blobs."""

    async def find_blob(self, repository: Repository, digest: str) -> StoredBlob | None:
        """The blob, if *repository* links it; whoever is told so finds it there for three quarters of the grace."""
        row = await self.sql.fetch_row(
            "SELECT b.size, b.storage_key, b.state, b.leased_at FROM repository_blob r "
            "JOIN blob b ON b.digest = r.digest WHERE r.repository = $1 AND r.digest = $2",
            repository.id,
            digest,
        )
        if row is None or row[2] >= DELETING:
            return None
        size, key, state, leased_at = row
        now = self.clock()
        if state == LIVE and now - leased_at <= self.grace_us // 4:
            return StoredBlob(digest, size, key, leased_at + self.grace_us // 4)

        async def renew(transaction: Transaction) -> bool:
            await self._lease(transaction, (digest,), now)
            return await transaction.fetch_row(_PROMISED, digest) is not None

        try:
            promised = await self.sql.transact(renew, durable=False)
        except DatabaseError:
            if state == DOOMED:
                raise
            # Busy or full: it is there now, no more is said.
            return StoredBlob(digest, size, key, now)
        if not promised:
            return None
        return StoredBlob(digest, size, key, now + self.grace_us // 4)

    async def link_blob(
        self,
        repository: Repository,
        digest: str,
        size: int,
        storage_key: str,
        *,
        upload: str = "",
        still_there: Callable[[str], bool] | None = None,
    ) -> None:
        """Make a stored blob a blob of *repository*; what a 201 of an upload promises (`blobs.commit_blob`).

        Args:
            upload: the upload session that ends with it.
            still_there: `Storage.is_there`, asked in the transaction: the collector may have taken the file
                away since `Storage.put`.

        Raises:
            BlobVanishedError: it has: put it again, and call this again.
            RegistryError: NAME_UNKNOWN if the repository is gone; DENIED if a quota would be exceeded.
        """

        async def work(transaction: Transaction) -> None:
            now = self.clock()
            await _add_link(transaction, repository, digest, size, now)
            await transaction.execute(
                "INSERT INTO blob (digest, size, storage_key, state, state_at, leased_at, verified_at, "
                "created_at) VALUES ($1, $2, $3, 0, $4, $4, $4, $4) ON CONFLICT (digest) DO UPDATE "
                "SET size = excluded.size, storage_key = excluded.storage_key, state = 0, "
                "state_at = excluded.state_at, leased_at = excluded.leased_at",
                digest,
                size,
                storage_key,
                now,
            )
            if upload:
                await transaction.execute("DELETE FROM upload WHERE id = $1", upload)
            if still_there is not None and not still_there(storage_key):
                raise BlobVanishedError(storage_key)

        await self.sql.transact(work)

    async def mount_blob(
        self, source: Repository, target: Repository, digest: str
    ) -> StoredBlob | None:
        """Link a blob of *source* into *target* too (end-11); `None` if *source* has none.

        Raises:
            RegistryError: as `link_blob`.
        """

        async def work(transaction: Transaction) -> StoredBlob | None:
            now = self.clock()
            row = await transaction.fetch_row(
                "SELECT b.size, b.storage_key FROM repository_blob r JOIN blob b ON b.digest = r.digest "
                "WHERE r.repository = $1 AND r.digest = $2 AND b.state <= 1",
                source.id,
                digest,
            )
            if row is None:
                return None
            await _add_link(transaction, target, digest, row[0], now)
            await self._lease(transaction, (digest,), now)
            return StoredBlob(digest, row[0], row[1], now + self.grace_us // 4)

        return await self.sql.transact(work)

    async def repositories_with_blob(self, digest: str, limit: int = 100) -> tuple[Repository, ...]:
        """Where a blob could be mounted from, if the client may pull there."""
        columns = ", ".join(f"p.{c}" for c in repository_rows.COLUMNS.split(", "))
        found = await self.sql.fetch(
            f"SELECT {columns} FROM repository_blob r JOIN repository p ON p.id = r.repository "
            "WHERE r.digest = $1 ORDER BY p.id LIMIT $2",
            digest,
            limit,
        )
        return tuple(repository_rows.from_row(row) for row in found)

    async def unlink_blob(
        self, repository: Repository, image: str, digest: str, actor: str
    ) -> None:
        """Take a blob out of *repository* (end-10); other repositories keep theirs.

        Raises:
            RegistryError: BLOB_UNKNOWN; UNSUPPORTED (405) while a manifest of the repository names it.
        """

        async def work(transaction: Transaction) -> tuple[None, bool]:
            if parent := await transaction.fetch_row(
                "SELECT image, parent FROM manifest_ref WHERE child = $1 AND repository = $2 "
                "AND kind <> 'manifest' LIMIT 1",
                digest,
                repository.id,
            ):
                raise RegistryError(
                    "UNSUPPORTED",
                    f"{digest} is used by the manifest {parent[1]} of {repository.path}/{parent[0]}: delete that first",
                )
            removed = await transaction.execute(
                "DELETE FROM repository_blob WHERE repository = $1 AND digest = $2",
                repository.id,
                digest,
            )
            if not removed:
                raise blob_unknown(digest)
            resource = image_resource(repository, image)
            await record(transaction, self.clock(), actor, "blob.delete", resource, digest)
            return None, True

        await self.transact(work)

    async def _lease(self, transaction: Transaction, digests: Sequence[str], now: int) -> int:
        """Apply the lease rule; how many of *digests* (each once) needed it and are live now."""
        renewed = 0
        for group in padded(digests):
            renewed += await transaction.execute(
                "UPDATE blob SET leased_at = $1, state_at = CASE state WHEN 0 THEN state_at ELSE $1 END, "
                "state = 0 WHERE state <= 1 AND (state = 1 OR leased_at < $2) "
                f"AND digest IN ({places(3, len(group))})",
                now,
                now - self.grace_us // 4,
                *group,
            )
        return renewed

    async def _promise_children(
        self, transaction: Transaction, repository: Repository, blobs: Sequence[Child], now: int
    ) -> None:
        """Check that all *blobs* are in the repository, and keep them there.

        Raises:
            RegistryError: MANIFEST_BLOB_UNKNOWN with every one that is missing.
        """
        digests = [child.digest for child in blobs]
        there: set[str] = set()
        for group in padded(digests):
            found = await transaction.fetch(
                "SELECT r.digest FROM repository_blob r JOIN blob b ON b.digest = r.digest "
                f"WHERE r.repository = $1 AND b.state <= 1 AND r.digest IN ({places(2, len(group))})",
                repository.id,
                *group,
            )
            there.update(row[0] for row in found)
        if missing := [digest for digest in digests if digest not in there]:
            raise children_unknown(missing)
        await self._lease(transaction, digests, now)


def blob_unknown(digest: str) -> RegistryError:
    return RegistryError("BLOB_UNKNOWN", f"the blob {digest} is not known here", {"digest": digest})


def children_unknown(missing: Sequence[str]) -> RegistryError:
    shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    return RegistryError(
        "MANIFEST_BLOB_UNKNOWN",
        f"the manifest names what is not in the repository: {shown}",
        [{"digest": digest} for digest in missing[:100]],
    )


async def _add_link(
    transaction: Transaction, repository: Repository, digest: str, size: int, now: int
) -> None:
    found = await transaction.fetch_row("SELECT 1 FROM repository WHERE id = $1", repository.id)
    if found is None:
        raise name_unknown(repository)
    added = await transaction.execute(
        "INSERT INTO repository_blob (repository, digest, size, linked_at) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (repository, digest) DO NOTHING",
        repository.id,
        digest,
        size,
        now,
    )
    if added:
        await check_quota(transaction, repository)
