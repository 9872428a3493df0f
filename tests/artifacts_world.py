"""The Artifact Registry API alone, over a database of its own, on a port of loopback: for tests of its clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from hakobune.api.artifacts_context import Registry
from hakobune.api.artifacts_v1 import artifacts_v1_routes
from hakobune.api.caller import set_caller
from hakobune.api.errors import answer_hako_error, answer_unknown_path
from hakobune.errors import HakoError
from hakobune.iam.master_key import MasterKey
from hakobune.iam.principal import parse_principal
from hakobune.iam.secret_box import SecretBox
from hakobune.iam.store import IamStore
from hakobune.registry.artifacts_store import ArtifactsStore
from hakobune.registry.blobs import LocalStorage
from hakobune.registry.generation import Generation
from hakobune.registry.manifest import digest_of
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Repository
from hakobune.registry.rows import now_us
from hakobune.registry.secret_store import SecretStore
from hakobune.state.migrate import migrate
from hakobune.state.sql import open_sql

T = TypeVar("T")

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


async def every_upstream_answers(_: Repository) -> None:
    """The probe of upstreams, which has tests of its own."""


class NamedCaller:
    """Calls by whom the bearer token names: `owner`, `user:EMAIL`, …; the token's check has tests of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            text = headers.get(b"authorization", b"Bearer owner").decode().partition(" ")[2]
            set_caller(scope, parse_principal(text))
        await self._app(scope, receive, send)


@dataclass(slots=True)
class ArtifactsWorld:
    """A running API. `ask` runs a coroutine function on the server's loop."""

    port: int
    registry: Registry
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, work: Callable[[Registry], Awaitable[T]]) -> T:
        async def run() -> T:
            return await work(self.registry)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)

    def push(
        self, project: str, repository: str, image: str, *tags: str, content: str = "x"
    ) -> str:
        """Store an image of one config and one layer, as a push does; its digest."""

        async def work(registry: Registry) -> str:
            stored = await registry.metadata.find_repository(project, repository)
            assert stored is not None
            config = await _put_blob(registry, stored, f'{{"os":"linux","c":"{content}"}}')
            layer = await _put_blob(registry, stored, f"layer of {content}")
            body = json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": OCI_MANIFEST,
                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
                    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer}],
                }
            ).encode()
            done = await registry.metadata.put_manifest(
                stored, image, tags or (digest_of(body),), body, OCI_MANIFEST, "owner"
            )
            return done.digest

        return self.ask(work)

    def push_manifest(self, project: str, repository: str, image: str, document: Any, *tags: str) -> str:  # fmt: skip
        """Store any manifest."""

        async def work(registry: Registry) -> str:
            stored = await registry.metadata.find_repository(project, repository)
            assert stored is not None
            body = json.dumps(document).encode()
            references = tags or (digest_of(body),)
            done = await registry.metadata.put_manifest(
                stored, image, references, body, document["mediaType"], "owner"
            )
            return done.digest

        return self.ask(work)


async def _put_blob(registry: Registry, repository: Repository, text: str) -> dict[str, Any]:
    digest = digest_of(text.encode())
    with tempfile.NamedTemporaryFile() as staged:
        staged.write(text.encode())
        staged.flush()
        key = registry.open_storage().put(Path(staged.name), digest)
    await registry.metadata.link_blob(repository, digest, len(text), storage_key=key)
    return {"digest": digest, "size": len(text)}


@contextlib.contextmanager
def artifacts_world(folder: Path) -> Iterator[ArtifactsWorld]:
    """The API on a free port until the block ends; its files lie in *folder*."""
    url = f"sqlite:///{folder}/meta.db"
    migrate(url, folder / "lock")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    port = listener.getsockname()[1]
    ready: list[ArtifactsWorld] = []
    ending: list[uvicorn.Server] = []

    async def serve() -> None:
        sql = await open_sql(url)
        generation = Generation(folder / "generation")
        try:
            master = MasterKey(b"m" * 32)
            box = SecretBox(master)
            storage = LocalStorage(folder)
            storage.prepare()
            registry = Registry(
                metadata=Metadata(sql, generation),
                store=ArtifactsStore(sql, now_us),
                secrets=SecretStore(sql, box, now_us),
                box=box,
                iam=IamStore(
                    sql,
                    master=master,
                    changed=generation.bump,
                    clock=now_us,
                    monotonic=time.monotonic,
                ),
                check_upstream=every_upstream_answers,
                open_storage=lambda: storage,
                staging=folder,
                host="localhost:8080",
            )
            app = Starlette(
                routes=artifacts_v1_routes(registry),
                exception_handlers={HakoError: answer_hako_error, HTTPException: answer_unknown_path},
            )  # fmt: skip
            config = uvicorn.Config(
                NamedCaller(app), lifespan="off", access_log=False, log_config=None
            )
            server = uvicorn.Server(config)
            ending.append(server)
            ready.append(ArtifactsWorld(port, registry, asyncio.get_running_loop()))
            await server.serve(sockets=[listener])
        finally:
            await sql.close()
            generation.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not (ready and ending[0].started):
        assert thread.is_alive(), "the API did not start"
        assert time.monotonic() < end, "the API did not start in 30 s"
        time.sleep(0.01)
    try:
        yield ready[0]
    finally:
        ending[0].should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive()
