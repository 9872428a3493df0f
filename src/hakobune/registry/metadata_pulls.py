"""When manifests were pulled, kept in memory and written to the database once a minute."""

from __future__ import annotations

from typing import Any, Final

from hakobune.registry.repository import Repository
from hakobune.registry.rows import SECOND, Rows
from hakobune.state.sql import Transaction

_PULL_KEPT_US: Final = 60 * SECOND  # a pull time is written at most once in so long a time


class PullRows(Rows):
    """The part of `Metadata` about pull times."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pulled: dict[tuple[int, str, str], int] = {}

    def note_pull(self, repository: Repository, image: str, digest: str) -> None:
        """Remember that a manifest was pulled just now; `flush_pulls` writes it."""
        self._pulled[repository.id, image, digest] = self.clock()

    async def flush_pulls(self) -> int:
        """Write the pull times that were noted, once a minute each; how many. To be called every minute and at the end."""
        pulled, self._pulled = self._pulled, {}
        if not pulled:
            return 0

        async def work(transaction: Transaction) -> None:
            await transaction.execute_many(
                "UPDATE manifest SET pulled_at = $4 WHERE repository = $1 AND image = $2 "
                "AND digest = $3 AND pulled_at < $5",
                [(*key, at, at - _PULL_KEPT_US) for key, at in sorted(pulled.items())],
            )

        await self.sql.transact(work, durable=False)
        return len(pulled)
