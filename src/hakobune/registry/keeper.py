"""The process that keeps the registry tidy: garbage, cleanup policies, leftovers, verification, what is known late.

One a machine; two at once do no harm, and killing it loses nothing. It answers nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from hakobune.errors import HakoError
from hakobune.registry.blobs import LocalStorage, Storage
from hakobune.registry.built_at import note_built
from hakobune.registry.cleaning import clean, evict
from hakobune.registry.collect import Collector
from hakobune.registry.generation import Generation
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Repository
from hakobune.registry.retention import forget
from hakobune.registry.rows import SECOND
from hakobune.registry.scrub import Scrubber
from hakobune.registry.storages import open_storage
from hakobune.registry.sweep import sweep_files, sweep_folders, sweep_uploads
from hakobune.settings import Settings
from hakobune.state.sql import Transaction, open_sql

_CLEANUP_PERIOD_S: Final = 24 * 3600.0
_NICE: Final = 10
_COMMIT_TRIES: Final = 100  # a tenth of a second each

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that is done again and again, `every_s` after it was done last."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[object]]


async def keep(settings: Settings, env: Mapping[str, str]) -> None:
    """Do all duties until SIGTERM or SIGINT.

    Raises:
        HakoError: the database cannot be reached, or the settings name nothing that can be used.
    """
    os.nice(_NICE)
    sql = await open_sql(settings.registry_database)
    generation = Generation(settings.registry / "generation")
    await sql.listen(generation.bump)
    metadata = Metadata(sql, generation, grace_s=settings.registry_grace_s)
    storage = open_storage(settings, env)
    files = LocalStorage(settings.registry_files)
    files.prepare()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await keep_duties(duties(metadata, storage, files, settings), stop)
    finally:
        await sql.close()


def duties(
    metadata: Metadata, storage: Storage, files: LocalStorage, settings: Settings
) -> tuple[Duty, ...]:
    """All that there is to do, and how often; a short grace makes the collector run often."""
    grace_s = settings.registry_grace_s
    collector = Collector(metadata, storage, wait_s=min(600.0, grace_s / 4))
    scrubber = Scrubber(
        metadata, storage, repair=lambda r, d: refetch(metadata, settings.registry_socket, r, d)
    )

    async def sweep() -> None:
        await sweep_uploads(metadata, files)
        await sweep_files(metadata, storage)
        await asyncio.to_thread(sweep_folders, files, time.time())
        abort = getattr(storage, "abort_leftovers", None)  # of S3 alone
        if abort is not None:
            await asyncio.to_thread(abort, time.time())

    async def collect() -> None:
        done = await collector.run()
        await asyncio.to_thread(files.empty_trash)
        if done.removed:
            logger.info(
                "blobs collected", extra={"blobs": done.removed, "bytes": done.removed_bytes}
            )

    async def forget_old() -> None:
        gone = await forget(metadata, days=settings.registry_history_days)
        if gone.acts or gone.tag_changes:
            logger.info(
                "the past was forgotten",
                extra={"acts": gone.acts, "tag_changes": gone.tag_changes},
            )

    async def scrub() -> None:
        for problem in (await scrubber.run()).problems:
            logger.error(
                "a blob was damaged",
                extra={
                    "digest": problem.digest,
                    "what": problem.what,
                    "repaired": problem.repaired,
                },
            )

    return (
        Duty("collect", max(0.5, min(3600.0, grace_s / 4)), collect),
        Duty("clean", 60.0, lambda: clean_due(metadata)),
        Duty("note built", 10.0, lambda: note_built(metadata, storage)),
        Duty("sweep", 3600.0, sweep),
        Duty("scrub", 3600.0, scrub),
        Duty("forget", 24 * 3600.0, forget_old),
    )


async def keep_duties(duties: tuple[Duty, ...], stop: asyncio.Event) -> None:
    """Do each duty in a task of its own, until *stop*; one that fails is tried again at its next time."""
    tasks = [asyncio.create_task(_keep_one(duty)) for duty in duties]
    try:
        await stop.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def clean_due(metadata: Metadata) -> int:
    """Apply the policies of repositories where that was a day ago, or that were changed since; how many went."""
    now = metadata.clock()
    deleted = 0
    due = {
        row[0]
        for row in await metadata.sql.fetch(
            "SELECT id FROM repository WHERE (cleanup_policies <> '{}' OR mode = 'remote') "
            "AND (cleaned_at < updated_at OR cleaned_at < $1)",
            now - int(_CLEANUP_PERIOD_S * SECOND),
        )
    }
    for repository in await metadata.list_repositories() if due else ():
        if repository.id not in due:
            continue
        try:
            done = await clean(metadata, repository)
        except HakoError as error:
            logger.warning(
                "a repository cannot be cleaned up",
                extra={"repository": repository.resource, "why": str(error)},
            )
        else:
            deleted += done.deleted + await evict(metadata, repository)
        await _note_cleaned(metadata, repository, now)
    return deleted


async def refetch(
    metadata: Metadata, socket_path: Path, repository: Repository, digest: str
) -> bool:
    """Have a worker get the blob of a remote repository from its upstream again; whether it is there then."""
    row = await metadata.sql.fetch_row(
        "SELECT image FROM manifest_ref WHERE child = $1 AND repository = $2 LIMIT 1",
        digest,
        repository.id,
    )
    if row is None:
        return False
    path = f"/v2/{quote(repository.path)}/{quote(row[0])}/blobs/{digest}"
    try:
        if not await asyncio.to_thread(_read_all, socket_path, path):
            return False
    except (OSError, http.client.HTTPException):
        return False
    # Who reads has the last byte before the blob is committed.
    for _ in range(_COMMIT_TRIES):
        if await metadata.find_blob(repository, digest) is not None:
            return True
        await asyncio.sleep(0.1)
    return False


async def _keep_one(duty: Duty) -> None:
    while True:
        try:
            await duty.run()
        except (HakoError, OSError) as error:
            logger.warning("a duty has failed", extra={"duty": duty.name, "why": str(error)})
        except Exception:
            logger.exception("a duty has failed", extra={"duty": duty.name})
        await asyncio.sleep(duty.every_s)


async def _note_cleaned(metadata: Metadata, repository: Repository, now: int) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction.execute(
            "UPDATE repository SET cleaned_at = $2 WHERE id = $1", repository.id, now
        )

    await metadata.sql.transact(work, durable=False)


def _read_all(socket_path: Path, path: str) -> bool:
    """GET something from the registry as the owner, throwing it away; whether it came whole."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    with contextlib.closing(connection), socket.socket(socket.AF_UNIX) as made:
        made.settimeout(60)
        made.connect(str(socket_path))
        connection.sock = made
        connection.request("GET", path)
        response = connection.getresponse()
        while response.read(1 << 20):
            pass
        return response.status == 200
