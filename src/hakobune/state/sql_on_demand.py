"""A database that is migrated and opened by the first statement: for a process that may never need it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hakobune.state.errors import DatabaseError
from hakobune.state.sql import Row, Sql, Transaction, Value, open_sql

T = TypeVar("T")


class SqlOnDemand:
    """See `hakobune.state.sql.Sql`. What hinders the opening is raised by the statement, and tried again by the next.

    Args:
        url: as `open_sql` takes it.
        lock: of `state.migrate`, which runs in a process of its own.
    """

    def __init__(self, url: str, *, lock: Path) -> None:
        self._url = url
        self._lock_path = lock
        self._opening = asyncio.Lock()
        self._sql: Sql | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def is_open(self) -> bool:
        return self._sql is not None

    async def fetch(self, statement: str, *values: Value) -> list[Row]:
        return await (self._sql or await self._opened()).fetch(statement, *values)

    async def fetch_row(self, statement: str, *values: Value) -> Row | None:
        return await (self._sql or await self._opened()).fetch_row(statement, *values)

    async def transact(
        self,
        work: Callable[[Transaction], Coroutine[Any, Any, T]],
        *,
        durable: bool = True,
    ) -> T:
        return await (self._sql or await self._opened()).transact(work, durable=durable)

    async def listen(self, changed: Callable[[], None]) -> None:
        """As soon as it is open."""
        self._listeners.append(changed)
        if self._sql is not None:
            await self._sql.listen(changed)

    async def close(self) -> None:
        if self._sql is not None:
            await self._sql.close()

    async def _opened(self) -> Sql:
        async with self._opening:
            if self._sql is None:
                await migrate_apart(self._url, self._lock_path)
                sql = await open_sql(self._url)
                for changed in self._listeners:
                    await sql.listen(changed)
                self._sql = sql
            return self._sql


async def migrate_apart(url: str, lock: Path) -> None:
    """Bring the database up to date in a process of its own, whose imports nobody else wants.

    Raises:
        DatabaseError: it cannot be reached, or a newer hako has written it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "hakobune.state.migrate", str(lock)),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate(url.encode())
    if process.returncode:
        what, _, rest = errors.decode(errors="replace").strip().partition("\n")
        raise DatabaseError(
            what.removeprefix("error: ") or "the registry's database cannot be opened",
            why=" ".join(line.strip().removeprefix("why: ") for line in rest.splitlines()),
        )
