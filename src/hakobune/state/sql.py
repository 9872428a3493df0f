"""SQL as text for processes that must stay small: one interface over SQLite and PostgreSQL, without SQLAlchemy.

Statements are in the words that both databases know, with `$1`, `$2`, … for values. What differs: PostgreSQL
derives the type of a value from its place, so a value that stands alone needs `CAST($1 AS BIGINT)`; sums are
cast to BIGINT; texts that are sorted or compared have the collation "C" in the schema; there is no LIKE.
Booleans are the integers 0 and 1, times are microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from hakobune.state.errors import DatabaseError as DatabaseError

Value = str | int | float | bytes | None
Row = tuple[Any, ...]
T = TypeVar("T")


class Transaction(Protocol):
    """A write transaction under way; its methods are all that the work of `transact` may await."""

    async def fetch(self, statement: str, *values: Value) -> list[Row]:
        """The rows of a query, or of a change with RETURNING."""
        ...

    async def fetch_row(self, statement: str, *values: Value) -> Row | None:
        """The first row."""
        ...

    async def execute(self, statement: str, *values: Value) -> int:
        """Change rows; how many."""
        ...

    async def execute_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        """The same change once for each of *rows*."""
        ...

    async def announce(self) -> None:
        """Tell whoever listens on the same database that what is cached is no longer true, if this is committed."""
        ...


class Sql(Protocol):
    """An open database on one asyncio loop."""

    async def fetch(self, statement: str, *values: Value) -> list[Row]:
        """The rows of a query, which sees everything that was committed before."""
        ...

    async def fetch_row(self, statement: str, *values: Value) -> Row | None:
        """The first row."""
        ...

    async def transact(
        self,
        work: Callable[[Transaction], Coroutine[Any, Any, T]],
        *,
        durable: bool = True,
    ) -> T:
        """Run *work* in one write transaction and give back what it returns: all or nothing.

        Writers are as if one came after the other. *work* may be run more than once, and on another thread
        than the loop's: it must change nothing but the database. Whatever it raises undoes everything.

        Args:
            durable: on return, what was written survives a power loss. If not, it survives the end of the
                process, and a power loss may undo the last such transactions, later ones first.

        Raises:
            DatabaseError: it is busy for seconds, full or lost.
        """
        ...

    async def listen(self, changed: Callable[[], None]) -> None:
        """Call *changed* when another machine has announced a change, and when some may have been missed.

        A database that is a file is used by one machine only: nothing is ever called.
        """
        ...

    async def close(self) -> None:
        """End what is under way, then disconnect."""
        ...


async def open_sql(url: str) -> Sql:
    """Connect to `sqlite:///PATH` or `postgresql://…`; the schema is there already (`state.migrate`).

    Raises:
        DatabaseError: it cannot be reached, or the URL is of another kind.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        from hakobune.state.sqlite import open_sqlite

        return open_sqlite(rest.removeprefix("/"))
    if scheme in ("postgresql", "postgres"):
        from hakobune.state.postgresql import open_postgresql

        return await open_postgresql(url)
    raise DatabaseError(
        f"{scheme or url}: no such kind of database",
        fix="the URL is sqlite:///PATH or postgresql://USER@HOST/DATABASE",
    )
