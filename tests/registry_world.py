"""The registry's metadata and storage without a server, with a clock that tests move."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import hashlib
import itertools
import json
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hakobune.registry.blobs import LocalStorage, commit_blob
from hakobune.registry.collect import Collector
from hakobune.registry.generation import Generation
from hakobune.registry.manifest import OCI_INDEX, OCI_MANIFEST, PutManifest, digest_of
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Repository
from hakobune.registry.rows import SECOND
from hakobune.state.migrate import migrate
from hakobune.state.sql import Sql, open_sql

T = TypeVar("T")
GRACE_S = 3600.0
ACTOR = "user:ada@example.com"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(slots=True)
class Clock:
    """Microseconds since 1970, by hand."""

    now: int = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@dataclass(slots=True)
class World:
    """One registry's insides, with one repository `p/r`."""

    metadata: Metadata
    storage: LocalStorage
    clock: Clock
    repository: Repository
    in_threads: bool = False  # files are put beside other things, as a server does it
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def sql(self) -> Sql:
        return self.metadata.sql

    async def new_repository(self, name: str, **options: Any) -> Repository:
        wanted = Repository(project="p", location="local", name=name, **options)
        return await self.metadata.create_repository(wanted, ACTOR)

    async def push_blob(self, data: bytes, repository: Repository | None = None) -> str:
        """As an upload does it; the digest."""
        digest = digest_of(data)
        staged = self.storage.uploads / f"staged-{next(self._numbers)}"
        staged.write_bytes(data)
        link = functools.partial(
            self.metadata.link_blob,
            repository or self.repository,
            digest,
            len(data),
            still_there=self.storage.is_there,
        )
        run = asyncio.to_thread if self.in_threads else _at_once
        await commit_blob(self.storage, link, staged, digest, run=run)
        staged.unlink()
        return digest

    async def push_image(
        self,
        image: str,
        *tags: str,
        layers: Sequence[bytes] = (b"layer",),
        subject: str = "",
        repository: Repository | None = None,
        annotations: dict[str, str] | None = None,
    ) -> PutManifest:
        """Blobs, then the manifest."""
        for data in (b"{}", *layers):
            await self.push_blob(data, repository)
        body = image_body(layers, subject=subject, annotations=annotations)
        return await self.put(image, body, *tags, repository=repository)

    async def put(
        self,
        image: str,
        body: bytes,
        *tags: str,
        media_type: str = OCI_MANIFEST,
        repository: Repository | None = None,
    ) -> PutManifest:
        target = repository or self.repository
        return await self.metadata.put_manifest(target, image, tags, body, media_type, ACTOR)

    async def put_index(self, image: str, children: Sequence[str], *tags: str) -> PutManifest:
        return await self.put(image, index_body(children), *tags, media_type=OCI_INDEX)

    def collector(self, wait_s: float = 600.0) -> Collector:
        return Collector(self.metadata, self.storage, wait_s=wait_s)

    def path_of(self, digest: str) -> Path:
        return self.storage.root / "blobs" / self.storage.key(digest)


def image_body(
    layers: Sequence[bytes], *, subject: str = "", annotations: dict[str, str] | None = None
) -> bytes:
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(CONFIG, b"{}"),
        "layers": [_descriptor(LAYER, data) for data in layers],
    }
    if subject:
        document["subject"] = {"mediaType": OCI_MANIFEST, "digest": subject, "size": 2}
    if annotations:
        document["annotations"] = annotations
    return json.dumps(document).encode()


def index_body(children: Sequence[str]) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {
                    "mediaType": OCI_MANIFEST,
                    "digest": digest,
                    "size": 2,
                    "platform": {"os": "linux", "architecture": f"arch{place}"},
                }
                for place, digest in enumerate(children)
            ],
        }
    ).encode()


@contextlib.asynccontextmanager
async def open_world(url: str, folder: Path, *, grace_s: float = GRACE_S) -> AsyncIterator[World]:
    """A registry in *folder* on a migrated database."""
    sql = await open_sql(url)
    generation = Generation(folder / "generation")
    clock = Clock()
    storage = LocalStorage(folder)
    storage.prepare()
    metadata = Metadata(sql, generation, clock, grace_s=grace_s)
    wanted = Repository(project="p", location="local", name="r")
    try:
        repository = await metadata.find_repository("p", "r")
        if repository is None:
            repository = await metadata.create_repository(wanted, ACTOR)
        yield World(metadata, storage, clock, repository)
    finally:
        await sql.close()
        generation.close()


def in_world(folder: Path, test: Callable[[World], Awaitable[T]], *, grace_s: float = GRACE_S) -> T:
    """Run *test* on a fresh SQLite database that does not wait for the disk."""

    async def run() -> T:
        async with open_world(new_sqlite(folder), folder, grace_s=grace_s) as world:
            return await test(world)

    return asyncio.run(run())


def new_sqlite(folder: Path) -> str:
    """The URL of a fresh database in *folder*, copied from one that was migrated before."""
    target = folder / "meta.db"
    shutil.copy(_migrated(), target)
    return f"sqlite:///{target}"


@functools.cache
def _migrated() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hk-meta-"))
    path = folder / "meta.db"
    migrate(f"sqlite:///{path}", folder / "lock")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return path


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


async def _at_once(call: Callable[[], str]) -> str:
    return call()
