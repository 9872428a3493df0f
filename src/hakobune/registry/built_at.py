"""When images were built, as their configurations say (image-spec config.md "created"): read after the push, off its path."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final

import msgspec

from hakobune.registry.blobs import Storage
from hakobune.registry.metadata import Metadata
from hakobune.registry.rows import SECOND
from hakobune.state.sql import Transaction

_LARGEST_CONFIG: Final = 8 << 20
_NOT_KNOWN: Final = -1
_BATCH: Final = 100


class _Config(msgspec.Struct):
    created: datetime | None = None


async def note_built(metadata: Metadata, storage: Storage) -> int:
    """Read the configurations of manifests that are new; how many."""
    noted = 0
    while True:
        found = await metadata.sql.fetch(
            "SELECT m.repository, m.image, m.digest, b.storage_key, b.size FROM manifest m "
            "LEFT JOIN blob b ON b.digest = m.config_digest AND b.state <= 1 "
            f"WHERE m.built_at = 0 AND m.config_digest <> '' LIMIT {_BATCH}"
        )
        built: list[tuple[int, str, str, int]] = []
        for repository, image, digest, key, size in found:
            at = _NOT_KNOWN
            if key is not None and size <= _LARGEST_CONFIG:
                at = await asyncio.to_thread(_read_created, storage, key, size)
            built.append((repository, image, digest, at))

        async def work(
            transaction: Transaction, built: list[tuple[int, str, str, int]] = built
        ) -> None:
            await transaction.execute_many(
                "UPDATE manifest SET built_at = $4 "
                "WHERE repository = $1 AND image = $2 AND digest = $3",
                built,
            )

        if built:
            await metadata.sql.transact(work, durable=False)
        noted += len(built)
        if len(found) < _BATCH:
            return noted


def _read_created(storage: Storage, key: str, size: int) -> int:
    """Microseconds since 1970; `_NOT_KNOWN` if it does not say, or is something else than a configuration."""
    try:
        config = msgspec.json.decode(b"".join(storage.read(key, 0, size)), type=_Config)
        if config.created is None:
            return _NOT_KNOWN
        return max(_NOT_KNOWN, int(config.created.timestamp() * SECOND))
    except (msgspec.DecodeError, FileNotFoundError, ValueError, OverflowError):
        return _NOT_KNOWN
