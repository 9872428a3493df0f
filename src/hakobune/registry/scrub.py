"""Reads stored blobs again and again: what is no longer what its digest says is taken away, and fetched anew where that is possible.

A blob with wrong bytes goes to quarantine in the transaction that marks its row: a GET finds nothing then, and a
push of the same bytes heals it. What came from an upstream is asked for there again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from hakobune.registry import repository as repository_rows
from hakobune.registry.blobs import Storage
from hakobune.registry.metadata import Metadata
from hakobune.registry.metadata_blobs import QUARANTINED
from hakobune.registry.repository import Mode, Repository
from hakobune.registry.rows import SECOND
from hakobune.state.audit import record
from hakobune.state.sql import Transaction

DEFAULT_PERIOD_S: Final = 7 * 24 * 3600.0
DEFAULT_BYTES_A_SECOND: Final = 32 << 20
ACTOR: Final = "scrub"
_BATCH: Final = 100

# Makes a remote repository have the blob again, from its upstream; whether it does.
Repair = Callable[[Repository, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it has to be, and what was done about it."""

    digest: str
    what: str  # in words
    repaired: bool
    quarantined: bool = False  # its file was taken away just now


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What a run has looked at and found."""

    blobs: int
    bytes: int
    problems: tuple[Problem, ...]


class Scrubber:
    """Verifies blobs against their digests.

    Args:
        repair: tried once for every remote repository that links a damaged blob.
        bytes_a_second: how fast files are read at most; 0 for as fast as it goes.
    """

    def __init__(
        self,
        metadata: Metadata,
        storage: Storage,
        *,
        repair: Repair | None = None,
        bytes_a_second: int = DEFAULT_BYTES_A_SECOND,
    ) -> None:
        self._metadata = metadata
        self._storage = storage
        self._repair = repair
        self._bytes_a_second = bytes_a_second

    async def run(self, *, period_s: float = DEFAULT_PERIOD_S) -> Scrubbed:
        """Verify every blob that was not verified for *period_s*; 0 for all.

        Raises:
            DatabaseError: what is done stays done.
            OSError: the storage does not answer; a blob that cannot be read alone is a problem, not an error.
        """
        before = self._metadata.clock() - int(period_s * SECOND)
        blobs = read = 0
        problems: list[Problem] = []
        async for digest, size, key in self._due(before):
            found = await asyncio.to_thread(_look, self._storage, key, digest, size)
            blobs += 1
            read += size
            if found:
                problems += await self._take_away(digest, key, found)
            else:
                await self._note(digest)
            if self._bytes_a_second:
                await asyncio.sleep(size / self._bytes_a_second)
        return Scrubbed(blobs, read, tuple(problems))

    async def _due(self, before: int) -> AsyncIterator[tuple[str, int, str]]:
        last = ""
        while True:
            rows = await self._metadata.sql.fetch(
                "SELECT digest, size, storage_key FROM blob WHERE verified_at <= $1 AND state <= 1 "
                "AND digest > $2 ORDER BY digest LIMIT $3",
                before,
                last,
                _BATCH,
            )
            for digest, size, key in rows:
                last = digest
                yield digest, size, key
            if len(rows) < _BATCH:
                return

    async def _note(self, digest: str) -> None:
        now = self._metadata.clock()

        async def work(transaction: Transaction) -> None:
            await transaction.execute(
                "UPDATE blob SET verified_at = $2 WHERE digest = $1", digest, now
            )

        await self._metadata.sql.transact(work, durable=False)

    async def _take_away(self, digest: str, key: str, found: str) -> tuple[Problem, ...]:
        """Quarantine a blob, unless the collector has it or it was stored anew meanwhile; repair it if possible."""
        now = self._metadata.clock()
        local = self._storage.local_path(key) is not None

        async def work(transaction: Transaction) -> tuple[bool, bool]:
            marked = await transaction.execute(
                "UPDATE blob SET state = $3, state_at = $4 "
                "WHERE digest = $1 AND storage_key = $2 AND state <= 1",
                digest,
                key,
                QUARANTINED,
                now,
            )
            if not marked:
                return False, False
            if local:  # a rename; whoever stores the same bytes waits for it
                self._storage.quarantine(key)
            await record(transaction, now, ACTOR, "blob.quarantine", digest, found)
            return True, True

        # The file may have been stored anew while it was read: then it is looked at once more.
        again = await asyncio.to_thread(_look, self._storage, key, digest, None)
        if not again or not await self._metadata.transact(work):
            return ()
        if not local:
            await asyncio.to_thread(self._storage.quarantine, key)
        return (Problem(digest, found, await self._repaired(digest), quarantined=True),)

    async def _repaired(self, digest: str) -> bool:
        if self._repair is None:
            return False
        columns = ", ".join(f"p.{c}" for c in repository_rows.COLUMNS.split(", "))
        for row in await self._metadata.sql.fetch(
            f"SELECT {columns} FROM repository_blob r JOIN repository p ON p.id = r.repository "
            "WHERE r.digest = $1 AND p.mode = $2 ORDER BY p.id",
            digest,
            Mode.REMOTE.value,
        ):
            if await self._repair(repository_rows.from_row(row), digest):
                await self._metadata.audit(ACTOR, "blob.repair", digest)
                return True
        return False


async def check_rows(metadata: Metadata) -> tuple[Problem, ...]:
    """What the database itself says is wrong: manifests that are not what their digests say, and what they miss.

    A quarantined blob that a manifest names is among it, for as long as nobody has pushed or fetched it again.
    """
    problems = []
    last: tuple[int, str, str] = (0, "", "")
    while True:
        rows = await metadata.sql.fetch(
            "SELECT repository, image, digest, body FROM manifest "
            "WHERE (repository, image, digest) > ($1, $2, $3) "
            f"ORDER BY repository, image, digest LIMIT {_BATCH}",
            *last,
        )
        for repository, image, digest, body in rows:
            last = (repository, image, digest)
            if _hash_of(body, digest) != digest:
                problems.append(Problem(digest, f"the manifest of {image} is damaged", False))
        if len(rows) < _BATCH:
            break
    for image, parent, child in await metadata.sql.fetch(
        "SELECT f.image, f.parent, f.child FROM manifest_ref f "
        "JOIN repository p ON p.id = f.repository AND p.mode = $1 "
        "WHERE f.kind = 'blob' AND NOT EXISTS (SELECT 1 FROM repository_blob r "
        "JOIN blob b ON b.digest = r.digest WHERE r.repository = f.repository AND r.digest = f.child "
        "AND b.state <= 1) ORDER BY f.repository, f.image, f.parent, f.child",
        Mode.STANDARD.value,
    ):
        problems.append(Problem(child, f"{image}@{parent} names it, and it is not there", False))
    return tuple(problems)


def _look(storage: Storage, key: str, digest: str, size: int | None) -> str:
    """What is wrong with a stored blob; "" if nothing is."""
    found = storage.stat(key)
    if found is None:
        return "it is not there"
    if size is not None and found.size != size:
        return f"it has {found.size} bytes instead of {size}"
    hashed = hashlib.new(digest.partition(":")[0], usedforsecurity=False)
    try:
        for piece in storage.read(key, 0, found.size):
            hashed.update(piece)
    except FileNotFoundError:
        return "it is not there"
    except OSError as error:
        if storage.local_path(key) is None:
            raise  # a network that fails says nothing about the bytes
        return f"it cannot be read: {error.strerror}"
    actual = hashed.hexdigest()
    return "" if actual == digest.partition(":")[2] else f"its bytes have the digest {actual}"


def _hash_of(body: bytes, digest: str) -> str:
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()}"
