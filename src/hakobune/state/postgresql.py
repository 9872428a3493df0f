"""PostgreSQL behind the interface of `state.sql`, by asyncpg."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg

from hakobune.state.errors import DatabaseError
from hakobune.state.sql import Row, Transaction, Value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")

_CHANNEL: Final = "hakobune_changed"
_CONNECTIONS: Final = 8
_COMMAND_S: Final = 30
# For a connection of the pool, as long as all are in use or none can be made.
_ACQUIRE_S: Final = 10
_BESIDE_OTHERS: Final = 4  # attempts beside other writers before one alone
_RECONNECT_S: Final = 1
_PING_S: Final = 10
_LOST: Final = (
    ConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server's last words have come when none were expected
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)

# LOCK TABLE takes no snapshot: a transaction that has waited for it sees what was committed meanwhile.
_BEGIN: Final = "BEGIN ISOLATION LEVEL SERIALIZABLE; {}LOCK TABLE registry_writers IN {} MODE"
_LAZY: Final = "SET LOCAL synchronous_commit = off; "


class _NotBegunError(ConnectionError):
    """The connection was lost before a transaction has begun: on another one it may."""


async def open_postgresql(url: str) -> PostgresqlSql:
    """Connect to a database that has been migrated.

    Raises:
        DatabaseError: it cannot be reached.
    """
    async with _translated("connect to"):
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=_CONNECTIONS,
            command_timeout=_COMMAND_S,
            statement_cache_size=512,
            max_cached_statement_lifetime=0,
            server_settings={"application_name": "hakobune"},
        )
    return PostgresqlSql(url, pool)


class PostgresqlSql:
    """A pool of connections to one database."""

    def __init__(self, url: str, pool: asyncpg.Pool) -> None:
        self._url = url
        self._pool = pool
        self._listener: asyncio.Task[None] | None = None

    async def fetch(self, statement: str, *values: Value) -> list[Row]:
        async def read(connection: asyncpg.pool.PoolConnectionProxy) -> list[Row]:
            return [tuple(row) for row in await connection.fetch(statement, *values)]

        return await self._read(read)

    async def fetch_row(self, statement: str, *values: Value) -> Row | None:
        async def read(connection: asyncpg.pool.PoolConnectionProxy) -> Row | None:
            row = await connection.fetchrow(statement, *values)
            return None if row is None else tuple(row)

        return await self._read(read)

    async def _read(
        self, read: Callable[[asyncpg.pool.PoolConnectionProxy], Coroutine[Any, Any, T]]
    ) -> T:
        """Do it again where the connection was lost: if the server was started again, all of the pool were."""
        async with _translated("read"):
            for _ in range(_CONNECTIONS):
                try:
                    async with self._pool.acquire(timeout=_ACQUIRE_S) as connection:
                        return await read(connection)
                except _LOST:
                    continue
            async with self._pool.acquire(timeout=_ACQUIRE_S) as connection:
                return await read(connection)

    async def transact(
        self,
        work: Callable[[Transaction], Coroutine[Any, Any, T]],
        *,
        durable: bool = True,
    ) -> T:
        async with _translated("write"):
            for _ in range(_CONNECTIONS):
                try:
                    return await self._write(work, durable=durable)
                except _NotBegunError:
                    continue
            return await self._write(work, durable=durable)

    async def _write(
        self, work: Callable[[Transaction], Coroutine[Any, Any, T]], *, durable: bool
    ) -> T:
        async with self._pool.acquire(timeout=_ACQUIRE_S) as connection:
            lazy = "" if durable else _LAZY
            for attempt in range(_BESIDE_OTHERS):
                try:
                    return await _run(connection, work, _BEGIN.format(lazy, "ROW EXCLUSIVE"))
                except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                    # As somebody else has committed what this one had read.
                    await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))
            return await _run(connection, work, _BEGIN.format(lazy, "EXCLUSIVE"))

    async def listen(self, changed: Callable[[], None]) -> None:
        self._listener = asyncio.create_task(self._listen(changed))

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        await self._pool.close()

    async def _listen(self, changed: Callable[[], None]) -> None:
        """Hold one connection; while there is none, everything cached counts as changed."""
        while True:
            try:
                connection = await asyncpg.connect(self._url, timeout=_COMMAND_S)
                try:
                    await _hear(connection, changed)
                finally:
                    await connection.close(timeout=_RECONNECT_S)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pass
            changed()
            await asyncio.sleep(_RECONNECT_S)


async def _hear(connection: asyncpg.Connection, changed: Callable[[], None]) -> None:
    """Call *changed* for every notification, until the connection ends."""
    ended = asyncio.Event()
    connection.add_termination_listener(lambda _: ended.set())
    await connection.add_listener(_CHANNEL, lambda *_: changed())
    changed()
    while not ended.is_set():
        try:
            await asyncio.wait_for(ended.wait(), _PING_S)
        except TimeoutError:  # perhaps it has silently died
            await connection.fetchval("SELECT 1", timeout=_RECONNECT_S)


class _PostgresqlTransaction:
    def __init__(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        self._connection = connection

    async def fetch(self, statement: str, *values: Value) -> list[Row]:
        return [tuple(row) for row in await self._connection.fetch(statement, *values)]

    async def fetch_row(self, statement: str, *values: Value) -> Row | None:
        row = await self._connection.fetchrow(statement, *values)
        return None if row is None else tuple(row)

    async def execute(self, statement: str, *values: Value) -> int:
        # The status is "INSERT 0 3", "UPDATE 3".
        status = await self._connection.execute(statement, *values)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def execute_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        await self._connection.executemany(statement, rows)

    async def announce(self) -> None:
        await self._connection.execute("SELECT pg_notify($1, '')", _CHANNEL)


async def _run(
    connection: asyncpg.pool.PoolConnectionProxy,
    work: Callable[[Transaction], Coroutine[Any, Any, T]],
    begin: str,
) -> T:
    try:
        await connection.execute(begin)
    except _LOST as error:
        raise _NotBegunError(str(error)) from error
    try:
        result = await work(_PostgresqlTransaction(connection))
        await connection.execute("COMMIT")
    except BaseException:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    return result


@asynccontextmanager
async def _translated(what: str) -> AsyncIterator[None]:
    try:
        yield
    except (OSError, TimeoutError, asyncpg.PostgresError, *_LOST) as error:
        raise DatabaseError(
            f"cannot {what} the PostgreSQL database", why=str(error) or type(error).__name__
        ) from error
