"""Removes what a crash, a client that went away or a failed fetch has left: files without rows, sessions without clients."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hakobune.registry.blobs import LocalStorage, Storage
from hakobune.registry.metadata import Metadata
from hakobune.registry.metadata_blobs import DELETING
from hakobune.registry.rows import SECOND
from hakobune.state.sql import Transaction

FILES_AFTER_S: Final = 24 * 3600.0
UPLOADS_AFTER_S: Final = 7 * 24 * 3600.0


async def sweep_files(
    metadata: Metadata, storage: Storage, *, after_s: float = FILES_AFTER_S
) -> int:
    """Remove stored blobs that are older than *after_s* and have no row; how many."""
    removed = 0
    before = metadata.clock() - int(after_s * SECOND)
    blobs = await asyncio.to_thread(lambda: iter(storage.list()))
    while (found := await asyncio.to_thread(next, blobs, None)) is not None:
        if found.modified_at < before and not await _has_row(metadata, found.key):
            removed += await retire_unnamed(metadata, storage, found.key)
    return removed


async def retire_unnamed(metadata: Metadata, storage: Storage, key: str) -> bool:
    """Take a stored file away unless a row names it; whether it did.

    Whoever is just storing the same bytes finds that out in the transaction that writes his row (`Storage.is_there`).

    Raises:
        DatabaseError: it is busy or lost; the file stays.
        OSError: it cannot be moved.
    """
    digest = _digest_of(key)

    async def work(transaction: Transaction) -> bool:
        # PostgreSQL lets nobody else write that row until this ends.
        held = await transaction.execute(_HOLD, digest, key, DELETING, metadata.clock())
        row = await transaction.fetch_row(_KEY, digest)
        if not held and row is not None and row[0] == key:
            return False
        storage.retire(key)
        if held:
            await transaction.execute("DELETE FROM blob WHERE digest = $1", digest)
        return True

    retired = await metadata.sql.transact(work, durable=False)
    if retired:
        await asyncio.to_thread(storage.delete, key)
    return retired


async def sweep_uploads(
    metadata: Metadata, files: LocalStorage, *, idle_s: float = UPLOADS_AFTER_S
) -> int:
    """End sessions in which nothing has arrived for *idle_s*, with their files; how many."""
    ended = 0
    while expired := await metadata.expired_uploads(idle_s):

        async def work(transaction: Transaction) -> None:
            await transaction.execute_many(
                "DELETE FROM upload WHERE id = $1 AND touched_at = $2",
                [(upload.id, upload.touched_at) for upload in expired],
            )

        await metadata.sql.transact(work, durable=False)
        ended += len(expired)
    known = {row[0] for row in await metadata.sql.fetch("SELECT id FROM upload")}
    now_s = metadata.clock() / SECOND
    await asyncio.to_thread(_remove_idle, files.uploads, known, now_s - idle_s)
    return ended


def sweep_folders(files: LocalStorage, now_s: float) -> None:
    """Remove forgotten hard links, fetches that nobody goes on with, and what was retired."""
    _remove_idle(files.incoming, frozenset(), now_s - FILES_AFTER_S)
    _remove_idle(files.partial, frozenset(), now_s - FILES_AFTER_S)
    files.empty_trash()


_KEY: Final = "SELECT storage_key FROM blob WHERE digest = $1"
_HOLD: Final = (
    "INSERT INTO blob (digest, size, storage_key, state, state_at, leased_at, verified_at, created_at) "
    "VALUES ($1, 0, $2, $3, $4, $4, $4, $4) ON CONFLICT (digest) DO NOTHING"
)


async def _has_row(metadata: Metadata, key: str) -> bool:
    row = await metadata.sql.fetch_row(_KEY, _digest_of(key))
    return row is not None and row[0] == key


def _digest_of(key: str) -> str:
    """What every storage's keys begin with: `ALGORITHM/HH/HEX`, perhaps with a suffix after a dot."""
    algorithm, _, rest = key.partition("/")
    return f"{algorithm}:{rest.rpartition('/')[2].partition('.')[0]}"


def _remove_idle(folder: Path, known: set[str] | frozenset[str], before_s: float) -> None:
    """Files that nothing has been written to since *before_s*, that nobody has locked and that are not *known*."""
    for entry in _entries(folder):
        with contextlib.suppress(FileNotFoundError):
            found = entry.stat(follow_symlinks=False)
            touched = max(found.st_mtime, found.st_ctime)
            if touched >= before_s or entry.name.partition(".")[0] in known:
                continue
            if not _is_locked(entry.path):
                os.unlink(entry.path)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from (e for e in entries if e.is_file(follow_symlinks=False))


def _is_locked(path: str) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
