"""A backup of the registry while it works: a consistent copy of its database, every blob that it names, its master key.

The database first, then the blobs of its rows, which never change. What the collector takes away in between was named by
nobody, or the whole is begun again. Blobs are hard links where that is possible, so a backup takes no time and no room
until it is copied elsewhere. `hako registry backup` runs `python -m hakobune.registry.backup TARGET`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from hakobune.errors import HakoError
from hakobune.iam.master_key import master_key_path
from hakobune.registry import postgresql_dump
from hakobune.registry.blobs import Storage
from hakobune.registry.storages import open_storage
from hakobune.registry.told import tell
from hakobune.settings import Settings
from hakobune.support.files import sync_folder

FORMAT: Final = 1
RECORD: Final = "backup.json"
DATABASE: Final = "meta.db"
BLOBS: Final = "blobs.tsv"  # digest and size of each, a line
KEY: Final = "master.key"
_ATTEMPTS: Final = 5
_PIECE: Final = 1 << 20


class BackupError(HakoError):
    """A backup cannot be made or used."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a backup says of itself in `backup.json`.

    Attributes:
        database: `sqlite` (`meta.db`) or `postgresql` (`meta.dump`, pg_dump's custom format).
        linked: how many of its blobs are hard links to the registry's own files.
    """

    format: int
    created: str
    database: str
    blobs: int
    size_bytes: int
    linked: int


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A blob that a database names."""

    digest: str
    size: int
    key: str


class BlobGoneError(Exception):
    """A blob is not where its row says; the row may be older than that."""


def blob_file(folder: Path, digest: str) -> Path:
    """Where a backup keeps a blob."""
    algorithm, _, hex_digits = digest.partition(":")
    return folder / "blobs" / algorithm / hex_digits[:2] / hex_digits


def back_up(settings: Settings, target: Path, *, env: Mapping[str, str], copy: bool) -> Record:
    """Make a backup in the new folder *target*; it appears whole or not at all.

    Args:
        copy: never make hard links.

    Raises:
        BackupError: *target* is there already, there is nothing to back up, or a blob is damaged.
        OSError: no room, no right.
    """
    _check_target(target)
    storage = open_storage(settings, env)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.mkdir(mode=0o700)
    try:
        record = _fill(settings, storage, partial, copy=copy)
        _write(partial / RECORD, json.dumps(asdict(record), indent=2).encode() + b"\n")
        sync_folder(partial)
        os.rename(partial, target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _check_target(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupError(
            f"cannot make a backup in {target}",
            why="there is something already",
            fix=f"name a folder that is not there yet: {target}/{time.strftime('%Y-%m-%d')}",
        )
    if not target.parent.is_dir():
        raise BackupError(
            f"cannot make a backup in {target}", why=f"there is no folder {target.parent}"
        )


def _fill(settings: Settings, storage: Storage, folder: Path, *, copy: bool) -> Record:
    url = settings.registry_database
    kind = url.partition(":")[0]
    with contextlib.suppress(FileNotFoundError):
        _write(folder / KEY, master_key_path(settings.home).read_bytes())
    for _ in range(_ATTEMPTS):
        rows = _snapshot(url, folder)
        try:
            linked = sum(_put(storage, row, folder, copy=copy) for row in rows)
        except BlobGoneError:
            continue
        lines = "".join(f"{row.digest}\t{row.size}\n" for row in rows)
        _write(folder / BLOBS, lines.encode())
        size = sum(row.size for row in rows)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return Record(FORMAT, created, kind, len(rows), size, linked)
    raise BackupError(
        "cannot make a backup",
        why="a blob that the database names is missing",
        fix="`hako registry verify` names it, and fetches it again where it came from elsewhere",
    )


def _snapshot(url: str, folder: Path) -> list[BlobRow]:
    """Copy the database as it is in one instant; the blobs that must be there then."""
    if not url.startswith("sqlite:"):
        return [BlobRow(*row) for row in postgresql_dump.dump(url, folder)]
    source = Path(url.removeprefix("sqlite:///"))
    if not source.exists():
        raise BackupError(f"there is nothing to back up: no {source}")
    path = folder / DATABASE
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as database:
        database.execute("VACUUM INTO ?", [str(path)])  # one read transaction: pushes go on
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as copy:
        rows = copy.execute("SELECT digest, size, storage_key FROM blob WHERE state = 0").fetchall()
    return [BlobRow(*row) for row in rows]


def _put(storage: Storage, row: BlobRow, folder: Path, *, copy: bool) -> bool:
    """Bring a blob into the backup; whether it is a link.

    Raises:
        BlobGoneError: it is not there.
        BackupError: its bytes are others.
    """
    path = blob_file(folder, row.digest)
    if path.exists():
        return path.stat().st_nlink > 1
    path.parent.mkdir(parents=True, exist_ok=True)
    own = storage.local_path(row.key)
    try:
        if own is not None and not copy:
            with contextlib.suppress(OSError):
                os.link(own, path)
                return True
        _copy(row, storage.read(row.key, 0, row.size), path)
    except FileNotFoundError as error:
        raise BlobGoneError from error
    return False


def _copy(row: BlobRow, pieces: Iterable[bytes], path: Path) -> None:
    algorithm, _, hex_digits = row.digest.partition(":")
    found = hashlib.new(algorithm)
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "wb") as file:
        for piece in pieces:
            found.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o444)
    if found.hexdigest() != hex_digits:
        raise BackupError(
            f"the blob {row.digest} is damaged",
            why=f"its bytes have the digest {algorithm}:{found.hexdigest()}",
            fix="hako registry verify",
        )
    os.rename(partial, path)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def main(arguments: list[str]) -> int:
    """`TARGET [copy]`; prints the record, or the error, as JSON."""
    settings = Settings.from_environment(os.environ, uid=os.geteuid())
    target, copy = Path(arguments[0]), "copy" in arguments[1:]
    return tell(
        lambda: asdict(back_up(settings, target, env=os.environ, copy=copy)),
        failed="cannot make a backup",
        place=arguments[0],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
