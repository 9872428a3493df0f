"""Removes blobs that nothing names, while pushes go on: marked first, condemned later, then their files, in that order.

A blob is *doomed* when no manifest names it and its last promise (`metadata_blobs`, the lease rule) is older than
the grace. If nobody has asked for it during a second wait, and still nothing names it, it is *deleting*: from then
on it is not there any more. Only then its file goes, in the transaction that removes its row: whoever has put the
same bytes meanwhile finds that out in his own transaction, and puts them again (`blobs.commit_blob`). Every
transaction looks at few rows, and killing it anywhere leaves what the next run finishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from hakobune.registry.blobs import Storage
from hakobune.registry.metadata import Metadata
from hakobune.registry.metadata_blobs import DELETING, DOOMED, LIVE
from hakobune.registry.rows import SECOND, padded, places
from hakobune.state.sql import Transaction

DEFAULT_WAIT_S: Final = 600.0
_BATCH: Final = 256
_NAMED: Final = "EXISTS (SELECT 1 FROM manifest_ref r WHERE r.child = blob.digest)"
_UNNAMED: Final = f"NOT {_NAMED}"


@dataclass(frozen=True, slots=True)
class Garbage:
    """A blob that a run would take one step further, and why."""

    digest: str
    size: int
    step: str  # doomed, deleting, removed
    reason: str


@dataclass(frozen=True, slots=True)
class Collected:
    """What a run has done."""

    doomed: int
    condemned: int
    removed: int
    removed_bytes: int


class Collector:
    """Runs beside everything else; two at once do no harm.

    Args:
        wait_s: between doom and removal.
    """

    def __init__(
        self, metadata: Metadata, storage: Storage, *, wait_s: float = DEFAULT_WAIT_S
    ) -> None:
        self._metadata = metadata
        self._storage = storage
        self._wait_us = int(wait_s * SECOND)

    async def run(self) -> Collected:
        """Remove what was condemned, condemn what was doomed, doom what nothing names.

        Raises:
            DatabaseError: it is busy or lost; what is done stays done.
            OSError: a file cannot be moved.
        """
        condemned = await self._condemn()
        removed, removed_bytes = await self._remove()
        doomed = await self._doom()
        return Collected(doomed, condemned, removed, removed_bytes)

    async def plan(self) -> tuple[Garbage, ...]:
        """What a run would do now, changing nothing."""
        now = self._metadata.clock()
        garbage = []
        for digest, size, state, state_at, leased_at in await self._metadata.sql.fetch(
            "SELECT digest, size, state, state_at, leased_at FROM blob WHERE (state = 0 AND "
            f"leased_at < $1 AND {_UNNAMED}) OR (state = 1 AND state_at <= $2 AND {_UNNAMED}) "
            "OR state = 2 ORDER BY digest",
            now - self._metadata.grace_us,
            now - self._wait_us,
        ):
            hours = (now - leased_at) / SECOND / 3600
            reason = f"no manifest names it, and nobody has asked for it for {hours:.1f} h"
            if state == LIVE:
                garbage.append(Garbage(digest, size, "doomed", reason))
            elif state == DOOMED:
                waited = (now - state_at) / SECOND
                garbage.append(
                    Garbage(digest, size, "removed", f"{reason}; doomed {waited:.0f} s ago")
                )
            else:
                garbage.append(Garbage(digest, size, "removed", "its removal was begun"))
        return tuple(garbage)

    async def _doom(self) -> int:
        now = self._metadata.clock()
        cutoff = now - self._metadata.grace_us
        doomed = 0
        async for digests in self._batches(LIVE, "leased_at", cutoff):

            async def work(transaction: Transaction, digests: Sequence[str] = digests) -> int:
                changed = 0
                for group in padded(digests):
                    changed += await transaction.execute(
                        "UPDATE blob SET state = 1, state_at = $1 WHERE state = 0 AND leased_at < $2 "
                        f"AND {_UNNAMED} AND digest IN ({places(3, len(group))})",
                        now,
                        cutoff,
                        *group,
                    )
                return changed

            doomed += await self._metadata.sql.transact(work, durable=False)
        return doomed

    async def _condemn(self) -> int:
        now = self._metadata.clock()
        cutoff = now - self._wait_us
        condemned = 0
        async for digests in self._batches(DOOMED, "state_at", cutoff + 1):

            async def work(
                transaction: Transaction, digests: Sequence[str] = digests
            ) -> tuple[int, bool]:
                changed = 0
                for group in padded(digests):
                    changed += await transaction.execute(
                        "UPDATE blob SET state = 2, state_at = $1 WHERE state = 1 AND state_at <= $2 "
                        f"AND {_UNNAMED} AND digest IN ({places(3, len(group))})",
                        now,
                        cutoff,
                        *group,
                    )
                    # Named meanwhile by a manifest whose blob was not asked for: a remote repository's.
                    await transaction.execute(
                        "UPDATE blob SET state = 0, state_at = $1, leased_at = $1 WHERE state = 1 "
                        f"AND {_NAMED} AND digest IN ({places(2, len(group))})",
                        now,
                        *group,
                    )
                return changed, changed > 0

            condemned += await self._metadata.transact(work)
        return condemned

    async def _remove(self) -> tuple[int, int]:
        removed = removed_bytes = 0
        async for digests in self._batches(DELETING, "state_at", self._metadata.clock() + 1):
            for digest in digests:
                gone = await self._remove_one(digest)
                if gone is not None:
                    key, size = gone
                    await asyncio.to_thread(self._storage.delete, key)
                    removed += 1
                    removed_bytes += size
        return removed, removed_bytes

    async def _remove_one(self, digest: str) -> tuple[str, int] | None:
        """The key and size of what is gone; `None` if somebody has stored it anew."""
        now = self._metadata.clock()

        async def work(transaction: Transaction) -> tuple[str, int] | None:
            # Holds the row: whoever stores the same bytes now waits, and then finds them gone.
            row = await transaction.fetch_row(
                "UPDATE blob SET state_at = $2 WHERE digest = $1 AND state = 2 "
                "RETURNING storage_key, size",
                digest,
                now,
            )
            if row is None:
                return None
            self._storage.retire(row[0])
            await transaction.execute("DELETE FROM repository_blob WHERE digest = $1", digest)
            await transaction.execute("DELETE FROM blob WHERE digest = $1", digest)
            return row[0], row[1]

        return await self._metadata.sql.transact(work)

    async def _batches(self, state: int, column: str, before: int) -> AsyncIterator[Sequence[str]]:
        """Digests in *state* whose *column* is smaller than *before*, a batch at a time."""
        last = ""
        # Of the doomed also those that are named: they are brought back. Not live: what the index of few has.
        which = f"state = 0 AND {_UNNAMED}" if state == LIVE else f"state = {state} AND state <> 0"
        while True:
            found = await self._metadata.sql.fetch(
                f"SELECT digest FROM blob WHERE {column} < $1 AND digest > $2 AND {which} "
                f"ORDER BY digest LIMIT {_BATCH}",
                before,
                last,
            )
            digests = [row[0] for row in found]
            if digests:
                last = digests[-1]
                yield digests
            if len(digests) < _BATCH:
                return
