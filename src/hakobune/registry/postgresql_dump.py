"""PostgreSQL's own programs, pg_dump and pg_restore, for the registry's database in a backup."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from hakobune.errors import HakoError
from hakobune.state.sql import open_sql

DUMP: Final = "meta.dump"
_LIVE: Final = "SELECT digest, size, storage_key FROM blob WHERE state = 0"


class PostgresqlToolError(HakoError):
    """One of PostgreSQL's programs is missing or fails."""


def dump(url: str, folder: Path) -> list[tuple[str, int, str]]:
    """Write the database as it is in one instant to *folder*; digest, size and key of the blobs that it needs, and perhaps of more.

    Raises:
        PostgresqlToolError: pg_dump is missing or fails.
        DatabaseError: the database cannot be reached.
    """
    path = folder / DUMP
    before = asyncio.run(_live(url))
    path.unlink(missing_ok=True)
    _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={path}")
    os.chmod(path, 0o600)
    # A row of both moments was there in between, too; one that was written between them may have been.
    return list({*before, *asyncio.run(_live(url))})


def restore(url: str, folder: Path) -> None:
    """Fill the empty database at *url*.

    Raises:
        PostgresqlToolError: pg_restore is missing or fails; the database is as it was.
    """
    path = str(folder / DUMP)
    _run("pg_restore", url, "--single-transaction", "--no-owner", "--no-privileges", path)


def has_registry(url: str) -> bool:
    """Whether the database has a registry's tables.

    Raises:
        DatabaseError: it cannot be reached.
    """
    return asyncio.run(_has_registry(url))


async def _has_registry(url: str) -> bool:
    sql = await open_sql(url)
    try:
        return await sql.fetch_row("SELECT to_regclass('repository')::text") != (None,)
    finally:
        await sql.close()


async def _live(url: str) -> list[tuple[str, int, str]]:
    sql = await open_sql(url)
    try:
        return [(str(d), int(s), str(k)) for d, s, k in await sql.fetch(_LIVE)]
    finally:
        await sql.close()


def _run(program: str, url: str, *arguments: str) -> None:
    """Run it on a database; the password goes by the environment, which only this user reads."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    shown = parts._replace(netloc=user + host, scheme="postgresql").geturl()
    env = dict(os.environ)
    if parts.password:
        env["PGPASSWORD"] = unquote(parts.password)
    command: Sequence[str] = (program, f"--dbname={shown}", *arguments)
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise PostgresqlToolError(
            f"cannot copy the database of {host}",
            why=f"{program} is not installed",
            fix="apt-get install postgresql-client",
        ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        errors = [line for line in said if "error:" in line.lower()]
        raise PostgresqlToolError(
            f"{program} fails on the database of {host}",
            why=" | ".join((errors or said)[:2]),
        )
