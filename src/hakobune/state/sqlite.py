"""SQLite behind the interface of `state.sql`: reads at once on the loop, writes in one thread that commits in groups."""

from __future__ import annotations

import asyncio
import queue
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from hakobune.state.errors import DatabaseError
from hakobune.state.sql import Row, Transaction, Value
from hakobune.support.room import how_to_make_room

T = TypeVar("T")
Work = Callable[[Transaction], Coroutine[Any, Any, Any]]

_BUSY_S: Final = 5.0
_WRITER_BUSY_S: Final = 0.004
_GROUP: Final = 64  # transactions at most that share one commit
_PLACE: Final = re.compile(r"\$(\d+)")


@dataclass(slots=True)
class _Asked:
    """One transaction that waits for the writer, and what came of it."""

    work: Work
    durable: bool
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


def open_sqlite(path: str) -> SqliteSql:
    """Open the database file at *path* (absolute), which has been migrated.

    Raises:
        DatabaseError: it is missing or not a database.
    """
    try:
        reader = _connect(path, busy_s=_BUSY_S)
        return SqliteSql(Path(path), reader, _connect(path, busy_s=_WRITER_BUSY_S))
    except sqlite3.Error as error:
        raise DatabaseError(f"cannot open the database {path}", why=str(error)) from error


class SqliteSql:
    """One open database file. The writer's thread ends at `close`."""

    def __init__(self, path: Path, reader: sqlite3.Connection, writer: sqlite3.Connection) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._transaction = _SqliteTransaction(writer)
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._durable = True  # what PRAGMA synchronous of the writer says now
        self._thread = threading.Thread(target=self._write_all, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def fetch(self, statement: str, *values: Value) -> list[Row]:
        try:
            return self._reader.execute(_to_sqlite(statement), values).fetchall()
        except sqlite3.Error as error:
            raise self._failed("read", error) from error

    async def fetch_row(self, statement: str, *values: Value) -> Row | None:
        try:
            cursor = self._reader.execute(_to_sqlite(statement), values)
            row: Row | None = cursor.fetchone()
            cursor.close()  # else the snapshot stays open and the log cannot be truncated
            return row
        except sqlite3.Error as error:
            raise self._failed("read", error) from error

    async def transact(
        self,
        work: Callable[[Transaction], Coroutine[Any, Any, T]],
        *,
        durable: bool = True,
    ) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._asked.put(_Asked(work, durable, future))
        return await future

    async def listen(self, changed: Callable[[], None]) -> None:
        """Never calls: all users of the file are on this machine."""

    async def close(self) -> None:
        self._asked.put(None)
        await asyncio.to_thread(self._thread.join)
        self._writer.close()
        self._reader.close()

    # The writer's thread

    def _write_all(self) -> None:
        ended = False
        while not ended:
            group: list[_Asked] = []
            asked = self._asked.get()
            while asked is not None:
                group.append(asked)
                if len(group) == _GROUP or self._asked.empty():
                    break
                asked = self._asked.get()
            ended = asked is None
            if group:
                self._write_group(group)
                self._loop.call_soon_threadsafe(_settle, group)

    def _write_group(self, group: list[_Asked]) -> None:
        """Commit a group together; if the database fails under it, each alone, so that each has its own answer."""
        try:
            self._commit(group)
        except BaseException as error:
            self._roll_back()
            if len(group) == 1:
                group[0].error = self._translated(error)
                return
            for asked in group:
                asked.result = asked.error = None
                self._write_group([asked])

    def _commit(self, group: list[_Asked]) -> None:
        execute = self._writer.execute
        durable = any(asked.durable for asked in group)
        if durable is not self._durable:
            execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        self._begin()
        if len(group) == 1:
            group[0].result = _drive(group[0].work(self._transaction))
        else:
            for asked in group:
                self._run_beside_others(asked)
        execute("COMMIT")

    def _begin(self) -> None:
        """Become the only writer, of all processes.

        SQLite waits longer from try to try: under load one process would starve for half a second. So it is
        asked for short waits, again and again.
        """
        until = time.monotonic() + _BUSY_S
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > until:
                    raise

    def _run_beside_others(self, asked: _Asked) -> None:
        execute = self._writer.execute
        execute("SAVEPOINT one")
        try:
            asked.result = _drive(asked.work(self._transaction))
        except sqlite3.Error:
            raise  # may have ended the whole transaction
        except BaseException as error:
            asked.error = error
            execute("ROLLBACK TO one")
        execute("RELEASE one")

    def _roll_back(self) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # there is nothing left to undo, or the next BEGIN says what is wrong

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, sqlite3.Error):
            return error
        failed = self._failed("write", error)
        failed.__cause__ = error
        return failed

    def _failed(self, what: str, error: sqlite3.Error) -> DatabaseError:
        full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
        fix = how_to_make_room(self._path.parent) if full else ""
        return DatabaseError(f"cannot {what} {self._path}", why=str(error), fix=fix)


class _SqliteTransaction:
    """The writer's open transaction. Nothing here ever suspends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fetch(self, statement: str, *values: Value) -> list[Row]:
        return self._connection.execute(_to_sqlite(statement), values).fetchall()

    async def fetch_row(self, statement: str, *values: Value) -> Row | None:
        rows = self._connection.execute(_to_sqlite(statement), values).fetchall()
        return rows[0] if rows else None

    async def execute(self, statement: str, *values: Value) -> int:
        return self._connection.execute(_to_sqlite(statement), values).rowcount

    async def execute_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        self._connection.executemany(_to_sqlite(statement), rows)

    async def announce(self) -> None:
        """All users of the file are on this machine."""


def _drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that only awaits what is there at once."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("the work of a transaction may await nothing but the transaction")


def _settle(group: list[_Asked]) -> None:
    for asked in group:
        if asked.future.done():
            continue  # nobody waits any more
        if asked.error is not None:
            asked.future.set_exception(asked.error)
        else:
            asked.future.set_result(asked.result)


def _connect(path: str, *, busy_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{_escaped(path)}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        timeout=_BUSY_S,
    )
    # WAL: readers beside the writer. FULL: what is committed survives a power loss (sqlite.org/wal.html).
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA journal_size_limit=67108864")
    connection.execute("PRAGMA wal_autocheckpoint=4000")  # the same pages change again and again
    connection.execute(f"PRAGMA busy_timeout={int(busy_s * 1000)}")
    return connection


def _escaped(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


_translations: dict[str, str] = {}


def _to_sqlite(statement: str) -> str:
    """`$1` is a name there, `?1` a number."""
    found = _translations.get(statement)
    if found is None:
        found = _translations[statement] = _PLACE.sub(r"?\1", statement)
    return found
