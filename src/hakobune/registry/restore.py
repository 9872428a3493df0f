"""A backup is brought back into an empty home, after every byte of it has been checked.

The database comes last: until then the home is as empty as before, and the same command begins again.
`hako registry restore` runs `python -m hakobune.registry.restore BACKUP`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from hakobune.iam.master_key import master_key_path
from hakobune.registry import postgresql_dump
from hakobune.registry.backup import (
    BLOBS,
    DATABASE,
    FORMAT,
    KEY,
    RECORD,
    BackupError,
    Record,
    blob_file,
)
from hakobune.registry.blobs import LocalStorage, Storage
from hakobune.registry.storages import open_storage
from hakobune.registry.told import tell
from hakobune.settings import Settings
from hakobune.state.migrate import migrate
from hakobune.state.sql import Sql, Transaction, open_sql
from hakobune.support.files import sync_folder

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found in a backup, all of it as it should be."""

    record: Record
    blobs: int
    size_bytes: int


def verify(backup: Path) -> Verified:
    """Read a whole backup and compare every byte with its digest.

    Raises:
        BackupError: it is none, is of a newer version, or something is missing or damaged: what, by digest.
    """
    record = _read_record(backup)
    if record.database == "sqlite":
        _check_database(backup / DATABASE)
    needed = _read_list(backup)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        wrong = [
            text for text in threads.map(lambda item: _check(backup, *item), needed.items()) if text
        ]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise BackupError(
            f"the backup {backup} is damaged",
            why="; ".join(wrong[:_SHOWN]) + more,
            fix="use another backup",
        )
    return Verified(record, len(needed), sum(needed.values()))


def restore(backup: Path, settings: Settings, *, env: Mapping[str, str]) -> Verified:
    """Check a backup and bring it into the empty home of *settings*, whose registry does not run.

    Raises:
        BackupError: as `verify`; or the home has a registry already, one that runs, or another kind of database.
    """
    _refuse_running(settings)
    url = settings.registry_database
    kind = url.partition(":")[0]
    database = Path(url.removeprefix("sqlite:///"))
    if kind == "sqlite" and database.exists():
        raise BackupError(
            f"cannot restore into {settings.home}",
            why=f"it has a registry: {database}",
            fix="give another HAKO_HOME, or move that file and the blobs beside it away",
        )
    if kind != "sqlite" and postgresql_dump.has_registry(url):
        raise BackupError(
            f"cannot restore into {settings.home}",
            why="the database that HAKO_REGISTRY_DATABASE names has a registry",
            fix="name an empty one: createdb hako2",
        )
    found = verify(backup)
    if found.record.database != kind:
        raise BackupError(
            f"cannot restore {backup} into {kind}",
            why=f"it was made from {found.record.database}",
            fix="set HAKO_REGISTRY_DATABASE to a database of the same kind",
        )
    storage = open_storage(settings, env)
    keys = {digest: _store(storage, backup, digest) for digest in _read_list(backup)}
    _restore_key(backup, settings)
    if kind == "sqlite":
        _restore_sqlite(backup, database, keys)
    else:
        postgresql_dump.restore(url, backup)
        asyncio.run(_adapt_at(url, keys))
    migrate(url, settings.registry / "migrate.lock")
    return found


def _read_record(backup: Path) -> Record:
    try:
        document = json.loads((backup / RECORD).read_bytes())
        if document["format"] > FORMAT:
            raise BackupError(
                f"cannot read the backup {backup}",
                why="a newer version of hako made it",
                fix="restore it with that version",
            )
        return Record(**document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(
            f"{backup} is no backup of a registry", why=f"{RECORD}: {error}"
        ) from error


def _check_database(path: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            (answer,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        answer = str(error)
    if answer != "ok":
        raise BackupError(f"the backup's {path.name} is damaged", why=str(answer))


def _read_list(backup: Path) -> dict[str, int]:
    """Every blob of the backup, with its size."""
    try:
        lines = (backup / BLOBS).read_text().splitlines()
        return {digest: int(size) for digest, size in (line.split("\t") for line in lines)}
    except (OSError, ValueError) as error:
        raise BackupError(f"the backup {backup} is damaged", why=f"{BLOBS}: {error}") from error


def _check(backup: Path, digest: str, size: int) -> str:
    """What is wrong with a blob; empty if nothing is."""
    algorithm, _, hex_digits = digest.partition(":")
    try:
        with open(blob_file(backup, digest), "rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                return f"{digest} has another length than {size}"
            found = hashlib.file_digest(file, algorithm).hexdigest()
    except FileNotFoundError:
        return f"{digest} is missing"
    return (
        "" if found == hex_digits else f"the bytes of {digest} have the digest {algorithm}:{found}"
    )


def _refuse_running(settings: Settings) -> None:
    for path in (settings.registry_socket, settings.api_socket):
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            raise BackupError(
                f"cannot restore into {settings.home}",
                why="its registry runs",
                fix="hako serve --stop (or end `hako registry serve`)",
            )


def _store(storage: Storage, backup: Path, digest: str) -> str:
    """Put a blob into the storage, as a link where that is possible; its key there."""
    source = blob_file(backup, digest)
    if not isinstance(storage, LocalStorage):
        return storage.put(source, digest)
    key = storage.key(digest)
    target = storage.local_path(key)
    assert target is not None  # a folder has one for every key
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        try:
            try:
                os.link(source, partial)
            except OSError:
                shutil.copyfile(source, partial)
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.chmod(partial, 0o444)
            os.rename(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(target.parent)
    return key


def _restore_key(backup: Path, settings: Settings) -> None:
    source = backup / KEY
    if not source.exists():
        return
    target = master_key_path(settings.home)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    os.rename(partial, target)
    sync_folder(target.parent)


def _restore_sqlite(backup: Path, database: Path, keys: Mapping[str, str]) -> None:
    database.parent.mkdir(parents=True, exist_ok=True)
    partial = database.with_name(f"{database.name}.{os.getpid()}")
    try:
        shutil.copyfile(backup / DATABASE, partial)
        asyncio.run(_adapt_at(f"sqlite:///{partial}", keys))
        with contextlib.closing(sqlite3.connect(partial)) as copy:
            copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            copy.execute("PRAGMA journal_mode = DELETE")
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.rename(partial, database)
    finally:
        for path in database.parent.glob(f"{partial.name}*"):
            path.unlink()
    sync_folder(database.parent)


async def _adapt_at(url: str, keys: Mapping[str, str]) -> None:
    sql: Sql = await open_sql(url)
    try:
        await sql.transact(lambda transaction: _adapt(transaction, keys))
    finally:
        await sql.close()


async def _adapt(transaction: Transaction, keys: Mapping[str, str]) -> None:
    """Make rows true for the new home: no uploads are under way, what the collector had begun to remove is gone, keys are those of its storage."""
    gone = "SELECT digest FROM blob WHERE state IN (1, 2)"
    await transaction.execute("DELETE FROM upload")
    await transaction.execute(f"DELETE FROM repository_blob WHERE digest IN ({gone})")
    await transaction.execute("DELETE FROM blob WHERE state IN (1, 2)")
    known = await transaction.fetch("SELECT digest, storage_key FROM blob WHERE state = 0")
    changed: Sequence[tuple[str, str]] = [
        (keys[str(digest)], str(digest))
        for digest, key in known
        if keys.get(str(digest), key) != key
    ]
    await transaction.execute_many("UPDATE blob SET storage_key = $1 WHERE digest = $2", changed)


def main(arguments: list[str]) -> int:
    """`BACKUP [check]`; prints what was found, or the error, as JSON."""
    settings = Settings.from_environment(os.environ, uid=os.geteuid())
    backup, check = Path(arguments[0]), "check" in arguments[1:]
    return tell(
        lambda: asdict(verify(backup) if check else restore(backup, settings, env=os.environ)),
        failed=f"cannot restore {backup}",
        place=str(backup),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
