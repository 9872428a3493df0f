"""What the keeper does by itself, once and now: `python -m hakobune.registry.maintain collect|plan|verify`.

Prints one JSON object: what was done and found, or the error.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from hakobune.registry.blobs import LocalStorage, Storage
from hakobune.registry.collect import Collector
from hakobune.registry.generation import Generation
from hakobune.registry.keeper import refetch
from hakobune.registry.metadata import Metadata
from hakobune.registry.scrub import Scrubber, check_rows
from hakobune.registry.storages import open_storage
from hakobune.registry.told import tell
from hakobune.settings import Settings
from hakobune.state.migrate import migrate
from hakobune.state.sql import open_sql

VERBS = ("collect", "plan", "verify")


def maintain(verb: str, settings: Settings, env: Mapping[str, str]) -> dict[str, Any]:
    """Do it; a document of what came of it.

    Raises:
        HakoError, OSError: the database or the storage does not answer.
    """
    settings.registry.mkdir(parents=True, exist_ok=True)
    migrate(settings.registry_database, settings.registry / "migrate.lock")
    return asyncio.run(_maintain(verb, settings, env))


async def _maintain(verb: str, settings: Settings, env: Mapping[str, str]) -> dict[str, Any]:
    storage = open_storage(settings, env)
    sql = await open_sql(settings.registry_database)
    generation = Generation(settings.registry / "generation")
    try:
        metadata = Metadata(sql, generation, grace_s=settings.registry_grace_s)
        if verb == "verify":
            return await _verify(metadata, storage, settings)
        return await _collect(metadata, storage, settings, dry_run=verb == "plan")
    finally:
        await sql.close()
        generation.close()


async def _verify(metadata: Metadata, storage: Storage, settings: Settings) -> dict[str, Any]:
    scrubber = Scrubber(
        metadata,
        storage,
        repair=lambda repository, digest: refetch(
            metadata, settings.registry_socket, repository, digest
        ),
        bytes_a_second=0,
    )
    done = await scrubber.run(period_s=0)
    known = {problem.digest for problem in done.problems}
    also = [p for p in await check_rows(metadata) if p.digest not in known]
    return asdict(replace(done, problems=(*done.problems, *also)))


async def _collect(
    metadata: Metadata, storage: Storage, settings: Settings, *, dry_run: bool
) -> dict[str, Any]:
    collector = Collector(metadata, storage, wait_s=min(600.0, settings.registry_grace_s / 4))
    if dry_run:
        return {"garbage": [asdict(item) for item in await collector.plan()]}
    done = await collector.run()
    freed = await asyncio.to_thread(storage.empty_trash) if isinstance(storage, LocalStorage) else 0
    return {**asdict(done), "freed_bytes": freed}


def main(arguments: list[str]) -> int:
    settings = Settings.from_environment(os.environ, uid=os.geteuid())
    (verb,) = arguments
    assert verb in VERBS  # the caller's business
    return tell(lambda: maintain(verb, settings, os.environ), failed=f"cannot {verb}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
