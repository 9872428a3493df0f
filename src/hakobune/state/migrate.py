"""Brings the registry's database up to date: `python -m hakobune.state.migrate LOCK`, a process that ends before the small ones begin.

The URL comes on stdin: it may hold a password, and everybody sees the arguments of a process.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc
from alembic import command
from alembic.config import Config

from hakobune.errors import HakoError
from hakobune.state.errors import DatabaseError
from hakobune.support.locks import exclusive

_ADVISORY_LOCK = 0x48414B4F  # of PostgreSQL: two machines do not both migrate


def migrate(url: str, lock: Path) -> None:
    """Make or change the tables as this version needs them; nothing if they are right.

    Args:
        url: as `state.sql.open_sql` takes it.
        lock: a file; two processes of one machine do not both migrate.

    Raises:
        DatabaseError: it cannot be reached, or a newer hako has written it.
    """
    try:
        with exclusive(lock):
            if url.startswith("sqlite:"):
                _migrate_sqlite(url)
            else:
                asyncio.run(_migrate_postgresql(url))
    except HakoError:
        raise
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        why = str(getattr(error, "orig", None) or error)
        raise DatabaseError("cannot open the registry's database", why=why) from error
    except Exception as error:  # Alembic's own kinds, all of them about revisions
        raise DatabaseError(
            "cannot bring the registry's database up to date",
            why=str(error),
            fix="if a newer hako has written it, run that version",
        ) from error


def _migrate_sqlite(url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not for everybody's eyes.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            _upgrade(connection)
    finally:
        engine.dispose()


async def _migrate_postgresql(url: str) -> None:
    import asyncpg
    from sqlalchemy.ext.asyncio import create_async_engine

    async def connect() -> Any:
        try:
            return await asyncpg.connect(url)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise OSError(str(error)) from error

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
    try:
        async with engine.begin() as connection:
            await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "registry_migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def main() -> int:
    try:
        migrate(sys.stdin.read(), Path(sys.argv[1]))
    except HakoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
