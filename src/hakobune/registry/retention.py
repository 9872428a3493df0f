"""What is forgotten of the past: acts in the audit trail and in the history of tags that are older than they are kept.

Few rows a transaction, so that no push waits for it. Oldest first: what is left begins at one moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from hakobune.registry.metadata import Metadata
from hakobune.registry.rows import SECOND
from hakobune.state.sql import Row, Transaction

DAY: Final = 24 * 3600 * SECOND
_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many rows have gone."""

    acts: int
    tag_changes: int


async def forget(metadata: Metadata, *, days: int) -> Forgotten:
    """Remove what is older than *days*; nothing if that is 0.

    Of each tag stays what it was then, so that the history says for every moment since what it has named.

    Raises:
        DatabaseError: what is done stays done.
    """
    if not days:
        return Forgotten(0, 0)
    before = metadata.clock() - days * DAY
    acts = await _remove(metadata, "audit", before, _OLD_ACTS)
    return Forgotten(acts, await _remove(metadata, "tag_history", before, _OLD_TAG_CHANGES))


# id, whether it is old, whether it may go
_OLD_ACTS: Final = (
    "SELECT id, CASE WHEN at < $1 THEN 1 ELSE 0 END, CASE WHEN at < $1 THEN 1 ELSE 0 END "
    "FROM audit WHERE id > $2 ORDER BY id LIMIT $3"
)
_OLD_TAG_CHANGES: Final = (
    "SELECT id, CASE WHEN at < $1 THEN 1 ELSE 0 END, CASE WHEN at < $1 AND (digest = '' OR EXISTS "
    "(SELECT 1 FROM tag_history n WHERE n.repository = h.repository AND n.image = h.image "
    "AND n.name = h.name AND n.id > h.id AND n.at < $1)) THEN 1 ELSE 0 END "
    "FROM tag_history h WHERE id > $2 ORDER BY id LIMIT $3"
)


async def _remove(metadata: Metadata, table: str, before: int, statement: str) -> int:
    removed = 0
    async for going in _batches(metadata, before, statement):

        async def work(transaction: Transaction, going: Sequence[int] = going) -> None:
            await transaction.execute_many(
                f"DELETE FROM {table} WHERE id = $1", [(id,) for id in going]
            )

        if going:
            await metadata.sql.transact(work, durable=False)
            removed += len(going)
    return removed


async def _batches(
    metadata: Metadata, before: int, statement: str
) -> AsyncIterator[tuple[int, ...]]:
    """The ids that may go, as long as there are old ones: ids rise with time, but for clocks that were wrong."""
    last = 0
    while True:
        rows: Sequence[Row] = await metadata.sql.fetch(statement, before, last, _BATCH)
        yield tuple(row[0] for row in rows if row[2])
        if len(rows) < _BATCH or not any(row[1] for row in rows):
            return
        last = rows[-1][0]
