"""What is answered from memory, and until when."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hakobune.registry.access_log import AccessLog
from hakobune.registry.answer import Answer
from hakobune.registry.connection import Connection
from hakobune.registry.fast_path import FastPath, Grant, HotBlob, HotManifest, answer_tail
from hakobune.registry.generation import Generation
from hakobune.registry.head import Head
from hakobune.registry.limits import Limits
from hakobune.registry.metrics import Metrics, MetricsPage, render
from hakobune.registry.peer import Peer
from hakobune.registry.repeats import Repeats
from hakobune.registry.repository import Repository
from hakobune.registry.route import Route, find_route

NAME = "project/repository/image"
DIGEST = "sha256:" + "0" * 64
SLOW = Answer(status=404, body=b"slow")


class World:
    """A worker's memory, without a database behind it: what is not remembered is answered `slow`."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.limits = Limits()
        self.stopping = False
        self.generation = Generation(folder / "generation")
        self.page = MetricsPage(1)
        self.log = AccessLog(folder / "access.log")
        self.pulled: list[tuple[str, str]] = []
        metrics = Metrics(self.page, 0)
        self.repeats = Repeats(self.generation, metrics, self.log)
        self.fast = FastPath(self.generation, self._note_pull, self.repeats)
        self.answer_hot = self.fast.answer
        self.answer_repeat = self.repeats.answer
        self.client: socket.socket

    def _note_pull(self, repository: Repository, image: str, digest: str) -> None:
        self.pulled.append((image, digest))

    def find_route(self, path: str, host: str = "") -> Route:
        return find_route(path)

    async def answer(self, connection: Connection, head: Head, route: Route) -> Answer:
        return SLOW

    def record(self, connection: Connection, status: int) -> None:
        pass

    def allow(self, authorization: str | None = "Bearer right", *, seconds: float = 60) -> None:
        self.fast.learn_grant(
            self.fast.generation(),
            authorization,
            owner=False,
            name=NAME,
            grant=Grant("user:ann@example.org", time.monotonic() + seconds),
        )

    def know_manifest(self, reference: str = "latest", *, seconds: float = 60) -> None:
        repository = Repository(project="project", location="local", name="repository")
        body = b'{"schemaVersion":2}'
        self.fast.learn_manifest(
            self.fast.generation(),
            NAME,
            reference,
            HotManifest(
                repository=repository,
                image="image",
                digest=DIGEST,
                head=answer_tail((("Docker-Content-Digest", DIGEST),), len(body)),
                body=body,
                until=time.monotonic() + seconds,
            ),
        )

    def know_blob(self, path: Path, *, seconds: float = 60) -> None:
        size = path.stat().st_size
        hot = HotBlob(str(path), size, answer_tail((), size), time.monotonic() + seconds)
        self.fast.learn_blob(self.fast.generation(), NAME, DIGEST, hot)

    async def ask(
        self,
        path: str = "manifests/latest",
        *lines: str,
        method: str = "GET",
        authorization: str | None = "Bearer right",
    ) -> bytes:
        """One request and its answer, `slow` or not."""
        credentials = [] if authorization is None else [f"Authorization: {authorization}"]
        head = (f"{method} /v2/{NAME}/{path} HTTP/1.1", "Host: x", *credentials, *lines, "", "")
        await self.loop.sock_sendall(self.client, "\r\n".join(head).encode())
        async with asyncio.timeout(5):
            return await self.loop.sock_recv(self.client, 1 << 20)


def run(folder: Path, test: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(folder)
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        world.client = near
        with near:
            await world.loop.connect_accepted_socket(
                lambda: Connection(world, lambda transport: Peer(False, "test")), far
            )
            await test(world)
            for connection in list(world.connections):
                connection.abort()
            await asyncio.sleep(0.01)
        world.generation.close()

    asyncio.run(main())


def is_hot(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 200 OK")


def test_what_is_known_and_allowed_is_answered(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.allow()
        world.know_manifest()

        answer = await world.ask()
        assert answer.endswith(b'\r\n\r\n{"schemaVersion":2}')
        assert f"Docker-Content-Digest: {DIGEST}".encode() in answer
        assert world.pulled == [("image", DIGEST)]

    run(tmp_path, test)


def test_a_head_has_no_body_and_is_no_pull(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.allow()
        world.know_manifest()

        for _ in range(4):
            answer = await world.ask(method="HEAD")
            assert is_hot(answer)
            assert answer.endswith(b"Content-Length: 19\r\n\r\n")
        assert world.pulled == []

    run(tmp_path, test)


@pytest.mark.parametrize("authorization", [None, "Bearer other"])
def test_nobody_else_gets_it(tmp_path: Path, authorization: str | None) -> None:
    async def test(world: World) -> None:
        world.allow()
        world.know_manifest()
        assert is_hot(await world.ask())

        assert not is_hot(await world.ask(authorization=authorization))

    run(tmp_path, test)


def test_nothing_outlives_a_change(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.allow()
        world.know_manifest()
        for _ in range(4):
            assert is_hot(await world.ask())
        world.generation.bump()

        assert not is_hot(await world.ask())
        world.know_manifest()
        assert not is_hot(await world.ask()), "who may has to be asked again as well"

    run(tmp_path, test)


def test_what_was_read_before_a_change_is_not_learnt_after_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        before = world.fast.generation()
        world.generation.bump()
        world.allow()
        repository = Repository(project="project", location="local", name="repository")
        old = HotManifest(repository, "image", DIGEST, answer_tail((), 3), b"old", float("inf"))
        world.fast.learn_manifest(before, NAME, "latest", old)

        assert not is_hot(await world.ask())

    run(tmp_path, test)


@pytest.mark.parametrize(("grant_s", "manifest_s"), [(-1, 60), (60, -1)])
def test_nothing_outlives_its_time(tmp_path: Path, grant_s: float, manifest_s: float) -> None:
    async def test(world: World) -> None:
        world.allow(seconds=grant_s)
        world.know_manifest(seconds=manifest_s)

        assert not is_hot(await world.ask())

    run(tmp_path, test)


def test_a_repeated_request_has_its_own_end_too(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.allow(seconds=0.1)
        world.know_manifest()
        for _ in range(4):
            assert is_hot(await world.ask())
        await asyncio.sleep(0.11)

        assert not is_hot(await world.ask())

    run(tmp_path, test)


def test_a_repeated_request_is_counted_and_logged_as_any_other(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.allow()
        world.know_manifest()
        for _ in range(4):
            await world.ask("manifests/latest", "User-Agent: docker")
        world.log.flush()

        line = json.loads((tmp_path / "access.log").read_text().splitlines()[-1])
        assert line["principal"] == "user:ann@example.org"
        assert (line["client"], line["agent"], line["sent"]) == ("test", "docker", 19)
        counted = 'requests_total{kind="manifest",method="GET",status="200"} 2'
        assert counted in render(world.page), "the first two are recorded by the worker"

    run(tmp_path, test)


@pytest.mark.parametrize(
    "line", ["If-None-Match: *", f'If-None-Match: "{DIGEST}"', "Content-Length: 2"]
)
def test_conditions_and_bodies_are_not_the_fast_paths(tmp_path: Path, line: str) -> None:
    async def test(world: World) -> None:
        world.allow()
        world.know_manifest()
        await world.ask()

        assert not is_hot(await world.ask("manifests/latest", line))

    run(tmp_path, test)


def test_a_blob_is_sent_from_its_file(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (tmp_path / "blob").write_bytes(b"content")
        world.allow()
        world.know_blob(tmp_path / "blob")

        for _ in range(2):
            answer = await world.ask(f"blobs/{DIGEST}")
            if not answer.endswith(b"content"):
                answer += await world.loop.sock_recv(world.client, 100)
            assert answer.endswith(b"Content-Length: 7\r\n\r\ncontent")

    run(tmp_path, test)


def test_a_file_that_is_gone_is_not_promised(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (tmp_path / "blob").write_bytes(b"content")
        world.allow()
        world.know_blob(tmp_path / "blob")
        os.unlink(tmp_path / "blob")

        assert not is_hot(await world.ask(f"blobs/{DIGEST}"))

    run(tmp_path, test)


def test_a_head_of_a_blob_is_a_promise_that_memory_does_not_give(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (tmp_path / "blob").write_bytes(b"content")
        world.allow()
        world.know_blob(tmp_path / "blob")

        assert not is_hot(await world.ask(f"blobs/{DIGEST}", method="HEAD"))
        assert not is_hot(await world.ask(f"blobs/{DIGEST}", "Range: bytes=0-1"))

    run(tmp_path, test)


def test_a_repository_is_forgotten_with_every_change(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        repository = Repository(project="project", location="local", name="repository")
        world.fast.learn_repository(world.fast.generation(), repository)
        assert world.fast.find_repository("project", "repository") is repository
        world.generation.bump()

        assert world.fast.find_repository("project", "repository") is None

    run(tmp_path, test)


def test_a_blob_that_nobody_reads_is_let_go_with_its_file(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (tmp_path / "blob").write_bytes(bytes(20_000_000))
        world.allow()
        world.know_blob(tmp_path / "blob")
        head = f"GET /v2/{NAME}/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right\r\n\r\n"
        await world.loop.sock_sendall(world.client, head.encode())
        await asyncio.sleep(0.05)
        (connection,) = world.connections
        assert _open_files(tmp_path / "blob") == 1

        connection.check(time.monotonic() + 61)
        connection.check(time.monotonic() + 122)
        await asyncio.sleep(0.05)

        assert not world.connections
        assert _open_files(tmp_path / "blob") == 0

    run(tmp_path, test)


def _open_files(path: Path) -> int:
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{entry}") == str(path)
        except FileNotFoundError:
            pass
    return found
