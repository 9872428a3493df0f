"""What every change of IAM does besides itself: the revision goes up, the audit trail has a row, caches are told.

All in the transaction of the change. Whoever caches decisions compares the revision, so a push that changes no rights
costs him one small read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hakobune.state.audit import record
from hakobune.state.sql import Sql, Transaction

T = TypeVar("T")


class Desk:
    """The database with what belongs to a change of IAM; all parts of the store share one."""

    def __init__(
        self,
        sql: Sql,
        *,
        changed: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        """
        Args:
            changed: called after each commit that changes rights (bumps the generation).
            clock: microseconds since 1970.
        """
        self.sql = sql
        self.now = clock
        self._changed = changed

    async def revision(self) -> int:
        """A number that changes with every change of IAM."""
        row = await self.sql.fetch_row("SELECT value FROM iam_revision")
        return int(row[0]) if row else 0

    async def change(self, work: Callable[[Transaction], Coroutine[Any, Any, T]]) -> T:
        """Run *work* in a transaction and make every cached decision untrue."""

        async def whole(transaction: Transaction) -> T:
            result = await work(transaction)
            await touch(transaction)
            return result

        result = await self.sql.transact(whole)
        self._changed()
        return result

    async def note(
        self, transaction: Transaction, *, actor: str, verb: str, resource: str, detail: str = ""
    ) -> None:
        """Add a row to the audit trail."""
        await record(transaction, self.now(), actor, verb, resource, detail)


async def touch(transaction: Transaction) -> None:
    """Within a transaction: rights have changed."""
    await transaction.execute("UPDATE iam_revision SET value = value + 1")
    await transaction.announce()
