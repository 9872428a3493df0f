"""Remote and virtual repositories without a server: a database, a folder of blobs, and the objects that a worker has."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from hakobune.registry.blobs import LocalStorage
from hakobune.registry.generation import Generation
from hakobune.registry.growing import Growing
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Mode, RemoteConfig, Repository, UpstreamPolicy
from hakobune.registry.sources import Sources
from hakobune.state.migrate import migrate
from hakobune.state.sql import open_sql
from tests.hostile_registry import HostileRegistry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
HOUR_US = 3600 * 1_000_000


@dataclass
class World:
    """One installation. `ahead_us` moves its clock."""

    home: Path
    metadata: Metadata
    storage: LocalStorage
    sources: Sources
    others: list[Sources] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    ahead_us: int = 0

    async def standard(self, name: str) -> Repository:
        return await self.metadata.create_repository(
            Repository(project="demo", location="local", name=name), "owner"
        )

    async def remote(self, name: str, upstream: str | HostileRegistry, **config: Any) -> Repository:
        text = upstream if isinstance(upstream, str) else f"http://{upstream.host}"
        return await self.metadata.create_repository(
            Repository(
                project="demo",
                location="local",
                name=name,
                mode=Mode.REMOTE,
                remote=RemoteConfig(upstream=text, **config),
            ),
            "owner",
        )

    async def virtual(
        self, name: str, *members: Repository, skip_unavailable: bool = False
    ) -> Repository:
        """In front of *members*, the first with the highest priority."""
        policies = tuple(
            UpstreamPolicy(
                id=member.name,
                repository=member.resource,
                priority=100 - number,
                skip_unavailable=skip_unavailable,
            )
            for number, member in enumerate(members)
        )
        return await self.metadata.create_repository(
            Repository(
                project="demo",
                location="local",
                name=name,
                mode=Mode.VIRTUAL,
                upstream_policies=policies,
            ),
            "owner",
        )

    async def push(self, repository: Repository, image: str, tag: str, *layers: bytes) -> str:
        """An image in a standard repository; its digest."""
        upstream = HostileRegistry()
        digest = put_image(upstream, *layers, tag=tag)
        for blob, data in upstream.blobs.items():
            staged = self.home / "staged"
            staged.write_bytes(data)
            key = self.storage.put(staged, blob)
            staged.unlink()
            await self.metadata.link_blob(repository, blob, len(data), key)
        media_type, body = upstream.manifests[digest]
        await self.metadata.put_manifest(
            repository, image, [digest, tag], body, media_type, "owner"
        )
        return digest

    async def pull(
        self, repository: Repository, image: str, tag: str = "latest", *, by: Sources | None = None
    ) -> str:
        """All of an image, checked; its digest."""
        sources = by or self.sources
        found = await sources.find_manifest(repository, image, tag)
        document = json.loads(found.manifest.body)
        for blob in [document["config"], *document["layers"]]:
            data = await self.read_blob(repository, image, blob["digest"], by=by)
            assert f"sha256:{sha256(data).hexdigest()}" == blob["digest"]
        return found.manifest.digest

    async def read_blob(
        self, repository: Repository, image: str, digest: str, *, by: Sources | None = None
    ) -> bytes:
        """A blob as a client gets it."""
        opened = await (by or self.sources).open_blob(repository, image, digest)
        if isinstance(opened, Growing):
            return await read_growing(opened)
        return b"".join(self.storage.read(opened.storage_key, 0, opened.size))

    async def settled(self) -> None:
        """Wait until nothing arrives any more."""
        while list((self.home / "partial").glob("*.state")):
            await asyncio.sleep(0.01)

    def later(self, seconds: float) -> None:
        self.ahead_us += int(seconds * 1_000_000)


async def read_growing(growing: Growing) -> bytes:
    """As a sender does it: what may be sent, when it may."""
    found = bytearray()
    try:
        while len(found) < growing.size:
            upto = await growing.wait(len(found))
            found += os.pread(growing.file, upto - len(found), len(found))
        return bytes(found)
    finally:
        growing.close()


def put_image(
    upstream: HostileRegistry, *layers: bytes, tag: str = "latest", subject: str = ""
) -> str:
    """An image on an upstream; its digest."""
    config = b'{"architecture":"amd64","os":"linux"}'
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(upstream, config, "application/vnd.oci.image.config.v1+json"),
        "layers": [
            _descriptor(upstream, layer, "application/vnd.oci.image.layer.v1.tar+gzip")
            for layer in layers
        ],
    }
    if subject:
        document["artifactType"] = "application/vnd.test.signature"
        document["subject"] = {"mediaType": MANIFEST, "digest": subject, "size": 1}
    return upstream.put_manifest(MANIFEST, json.dumps(document).encode(), *([tag] if tag else []))


def put_index(upstream: HostileRegistry, *children: str, tag: str = "latest") -> str:
    """An index of manifests on an upstream, for one architecture each."""
    manifests = [
        {
            "mediaType": MANIFEST,
            "digest": child,
            "size": len(upstream.manifests[child][1]),
            "platform": {"os": "linux", "architecture": name},
        }
        for child, name in zip(children, ("amd64", "arm64", "s390x"), strict=False)
    ]
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    return upstream.put_manifest(INDEX, json.dumps(document).encode(), tag)


def _descriptor(upstream: HostileRegistry, data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": upstream.put_blob(data), "size": len(data)}


def run(
    home: Path,
    work: Callable[[World], Coroutine[Any, Any, None]],
    *,
    workers: int = 1,
    own_hosts: tuple[str, ...] = (),
    database: str = "",
    timeout_s: float = 60,
) -> None:
    """Run *work* in a new world; `others` are the sources of further workers.

    Args:
        database: the URL of an empty one; SQLite in *home* if there is none.
    """
    if database:
        migrate(database, home / "lock")

    async def inside() -> None:
        async with _world(home, workers, own_hosts, database) as world:
            await asyncio.wait_for(work(world), timeout_s)

    asyncio.run(inside())


@contextlib.asynccontextmanager
async def _world(
    home: Path, workers: int, own_hosts: tuple[str, ...], database: str
) -> AsyncIterator[World]:
    home.mkdir(parents=True, exist_ok=True)
    file = home / "meta.db"
    if not database and not file.exists():
        shutil.copyfile(_template(home), file)
    storage = LocalStorage(home)
    storage.prepare()
    sql = await open_sql(database or f"sqlite:///{file}")
    generation = Generation(home / "generation")
    world: World

    def clock() -> int:
        import time

        return time.time_ns() // 1000 + world.ahead_us

    metadata = Metadata(sql, generation, clock)

    def open_password(repository: Repository) -> str:
        world.opened.append(repository.name)
        return world.passwords[repository.name]

    found = [
        Sources(
            metadata,
            storage,
            partial=home / "partial",
            open_password=open_password,
            env={},
            home=home,
            own_hosts=own_hosts,
        )
        for _ in range(workers)
    ]
    world = World(home, metadata, storage, found[0], found[1:])
    try:
        yield world
    finally:
        for sources in found:
            await sources.close()
        await sql.close()
        generation.close()


_made: dict[str, bytes] = {}


def _template(home: Path) -> Path:
    """An empty database; migrating takes longer than most tests."""
    path = home / "template.db"
    if not _made:
        migrate(f"sqlite:///{path}", home / "lock")
        _made["empty"] = path.read_bytes()
    path.write_bytes(_made["empty"])
    return path
