"""SQLite behind `state.sql`: one writer, groups, and what becomes of errors."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hakobune.state import sqlite
from hakobune.state.sql import DatabaseError, Sql, Transaction, open_sql


def on(folder: Path, test: Callable[[Sql], Awaitable[None]]) -> None:
    """Run *test* with a table `t(a primary key, b)`."""
    path = folder / "some?thing #1.db"
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE t (a TEXT PRIMARY KEY, b INTEGER)")

    async def run() -> None:
        sql = await open_sql(f"sqlite:///{path}")
        try:
            await test(sql)
        finally:
            await sql.close()

    asyncio.run(run())


async def put(transaction: Transaction, a: str, b: int) -> int:
    return await transaction.execute("INSERT INTO t (b, a) VALUES ($2, $1)", a, b)


def test_values_are_bound_by_number_and_may_be_used_twice(tmp_path: Path) -> None:
    async def test(sql: Sql) -> None:
        assert await sql.fetch_row("SELECT $2, $1, $2, $11", *range(1, 12)) == (2, 1, 2, 11)
        assert await sql.transact(lambda t: put(t, "x", 5)) == 1
        assert await sql.fetch("SELECT a, b FROM t") == [("x", 5)]
        assert await sql.fetch_row("SELECT a FROM t WHERE b = $1", 6) is None

    on(tmp_path, test)


def test_transactions_of_one_moment_share_a_commit_and_see_each_other(tmp_path: Path) -> None:
    async def test(sql: Sql) -> None:
        async def count(transaction: Transaction, name: str) -> int:
            await put(transaction, name, 1)
            row = await transaction.fetch_row("SELECT COUNT(*) FROM t")
            assert row is not None
            return int(row[0])

        counts = await asyncio.gather(
            *(
                sql.transact(lambda t, n=n: count(t, str(n)), durable=bool(n % 2))
                for n in range(200)
            )
        )

        assert counts == list(range(1, 201))

    on(tmp_path, test)


def test_work_that_awaits_something_else_is_a_mistake_and_writes_nothing(tmp_path: Path) -> None:
    async def test(sql: Sql) -> None:
        async def work(transaction: Transaction) -> None:
            await put(transaction, "x", 1)
            await asyncio.sleep(0)

        with pytest.raises(RuntimeError, match="nothing but the transaction"):
            await sql.transact(work)
        assert await sql.fetch("SELECT * FROM t") == []

    on(tmp_path, test)


def test_a_caller_that_goes_away_stops_neither_his_transaction_nor_others(tmp_path: Path) -> None:
    async def test(sql: Sql) -> None:
        gone = asyncio.create_task(sql.transact(lambda t: put(t, "gone", 1)))
        await asyncio.sleep(0)
        gone.cancel()
        await sql.transact(lambda t: put(t, "other", 1))

        assert await sql.fetch("SELECT a FROM t ORDER BY a") == [("gone",), ("other",)]

    on(tmp_path, test)


def test_a_database_that_somebody_holds_is_busy_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_S", 0.05)

    async def test(sql: Sql) -> None:
        path = next(tmp_path.glob("*.db"))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseError, match="cannot write") as caught:
                await sql.transact(lambda t: put(t, "x", 1))
            assert await sql.fetch("SELECT * FROM t") == []  # reading goes on
            other.execute("ROLLBACK")
        await sql.transact(lambda t: put(t, "x", 1))

        assert "locked" in caught.value.why

    on(tmp_path, test)


def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    async def test(sql: Sql) -> None:
        await sql.transact(lambda t: t.execute("PRAGMA max_page_count = 1"))  # as many as there are

        async def fill(transaction: Transaction) -> None:
            for number in range(1000):
                await put(transaction, f"{number}" * 100, number)

        with pytest.raises(DatabaseError, match="cannot write") as caught:
            await sql.transact(fill)

        assert "full" in caught.value.why
        assert "make room" in caught.value.fix
        assert await sql.fetch("SELECT * FROM t") == []
        await sql.transact(lambda t: put(t, "small", 1))

    on(tmp_path, test)


def test_what_is_under_way_is_written_before_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "x.db"

    async def test(sql: Sql) -> None:
        tasks = [asyncio.create_task(sql.transact(lambda t, n=n: put(t, str(n), n))) for n in range(20)]  # fmt: skip
        await asyncio.sleep(0)
        await sql.close()
        await asyncio.gather(*tasks)

    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE t (a TEXT PRIMARY KEY, b INTEGER)")

    async def run() -> None:
        await test(await open_sql(f"sqlite:///{path}"))

    asyncio.run(run())

    with contextlib.closing(sqlite3.connect(path)) as read:
        assert read.execute("SELECT COUNT(*) FROM t").fetchone() == (20,)
