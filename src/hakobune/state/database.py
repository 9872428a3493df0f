"""The database of desired state: documents by kind and name, service ports, events; SQLite, or PostgreSQL by URL.

Blocking calls that end within a few milliseconds; a server runs them in one thread of its own. Only the
controller writes. Migrations are Alembic's, run when the database is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import sqlalchemy.event
import sqlalchemy.exc
from alembic import command
from alembic.config import Config

from hakobune.state.errors import DatabaseError as DatabaseError  # callers know it from here
from hakobune.support.locks import exclusive
from hakobune.support.room import how_to_make_room

metadata = sa.MetaData()

documents = sa.Table(
    "documents",
    metadata,
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(512), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("time", sa.String(32), nullable=False),
    sa.Column("subject", sa.String(512), nullable=False, index=True),
    sa.Column("reason", sa.String(64), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Put:
    """Write (or replace) one document."""

    kind: str
    name: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove one document, if it is there."""

    kind: str
    name: str


Change = Put | Drop


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """What happened to a subject, why, in words; `time` is RFC 3339."""

    time: str
    subject: str
    reason: str
    message: str


class Database:
    """One open database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str, *, lock: Path) -> Database:
        """Connect and bring the schema up to date (under *lock*, so that two openers do not both migrate).

        Raises:
            DatabaseError: it cannot be reached, or a newer hako has written it.
        """
        engine = sa.create_engine(url)
        if engine.dialect.name == "sqlite":
            sqlalchemy.event.listen(engine, "connect", _prepare_sqlite)
        try:
            with exclusive(lock), engine.begin() as connection:
                command.upgrade(_migrations(connection), "head")
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise DatabaseError("cannot open the database", why=_cause(error)) from error
        except Exception as error:  # Alembic's own kinds, all of them about revisions
            raise DatabaseError(
                "cannot bring the database up to date",
                why=str(error),
                fix="if a newer hako has written it, run that version",
            ) from error
        return cls(engine)

    def close(self) -> None:
        self._engine.dispose()

    def read(self, kind: str) -> dict[str, bytes]:
        """Every document of a kind by name."""
        query = sa.select(documents.c.name, documents.c.body).where(documents.c.kind == kind)
        with self._engine.connect() as connection:
            return {name: bytes(body) for name, body in connection.execute(query)}

    def write(self, changes: Iterable[Change], happened: Sequence[EventRow] = ()) -> None:
        """Carry out all *changes* and note what happened, or nothing of it; durable on return.

        Raises:
            DatabaseError: the disk is full or the server is gone; nothing was written.
        """
        with self._transaction() as connection:
            for change in changes:
                where = (documents.c.kind == change.kind) & (documents.c.name == change.name)
                connection.execute(documents.delete().where(where))
                if isinstance(change, Put):
                    connection.execute(
                        documents.insert().values(
                            kind=change.kind, name=change.name, body=change.body
                        )
                    )
            if happened:
                connection.execute(
                    events.insert(),
                    [
                        {
                            "time": e.time,
                            "subject": e.subject,
                            "reason": e.reason,
                            "message": e.message,
                        }
                        for e in happened
                    ],
                )

    def read_events(self, subject: str, *, limit: int) -> tuple[EventRow, ...]:
        """The last *limit* events of a subject, oldest first."""
        query = (
            sa.select(events.c.time, events.c.subject, events.c.reason, events.c.message)
            .where(events.c.subject == subject)
            .order_by(events.c.id.desc())
            .limit(limit)
        )
        with self._engine.connect() as connection:
            rows = [
                EventRow(time=t, subject=s, reason=r, message=m)
                for t, s, r, m in connection.execute(query)
            ]
        return tuple(reversed(rows))

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise self._not_written(_cause(error)) from error

    def _not_written(self, why: str) -> DatabaseError:
        file = self._engine.url.database
        if file is None or "disk is full" not in why:  # SQLite's words for SQLITE_FULL
            return DatabaseError("cannot write the database", why=why)
        return DatabaseError(
            f"cannot write {file}", why=why, fix=how_to_make_room(Path(file).parent)
        )


def sqlite_url(path: Path) -> str:
    """The URL of a database file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Readers beside the writer, and what is committed survives a power loss (sqlite.org/wal.html)."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def _migrations(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _cause(error: sqlalchemy.exc.SQLAlchemyError) -> str:
    original = getattr(error, "orig", None)
    return str(original or error)
