"""HAProxy with our files, and nothing else: what it does when an instance goes while a request is on its way to it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import json
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hakobune.serving.haproxy import HAProxy, HAProxyError
from hakobune.serving.haproxy_files import StartUp
from hakobune.serving.ingress import RoutingTable, Server, Share
from hakobune.serving.ingress_keeper import WRITE_DELAY_S, IngressKeeper
from hakobune.serving.instance import Instance, InstanceState
from hakobune.serving.wake import HoldServer, Question
from tests.e2e.load import Answer, ask

NOBODY = Server(name="gone", address="127.0.0.1", port=1, concurrency=10)  # refuses connections


@dataclass(slots=True)
class Ingress:
    """A running HAProxy, and the port at which it listens."""

    haproxy: HAProxy
    port: int

    async def ask(self) -> Answer:
        return await asyncio.to_thread(ask, self.port, "shop.localhost")


@contextlib.asynccontextmanager
async def ingress(answer: Callable[[Question], Awaitable[str]]) -> AsyncIterator[Ingress]:
    """Knows the service `shop` and no instance of it; *answer* is asked for held requests."""
    folder = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        haproxy = HAProxy(
            StartUp(
                folder=folder,
                api_socket=folder / "api.sock",
                registry_socket=folder / "registry.sock",
                grpc_socket=folder / "grpc.sock",
                binds=("127.0.0.1",),
                port=port,
                service_ports=(),
                own_hosts=("localhost", "127.0.0.1"),
                mirror_hosts=("hub.test",),
                slots=2,
            )
        )
        await haproxy.write_files(a_table())
        hold = HoldServer(haproxy.start.hold_socket, answer)
        await hold.start()
        command = f"exec haproxy -db -f {haproxy.start.configuration} 3<&{listener.fileno()}"
        process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(20):
                while not await answers(haproxy):
                    await asyncio.sleep(0.02)
            yield Ingress(haproxy, port)
        finally:
            process.kill()
            process.wait()
            await hold.stop()
            shutil.rmtree(folder)


async def answers(haproxy: HAProxy) -> bool:
    try:
        return await haproxy.pid() > 0
    except HAProxyError:
        return False


@pytest.fixture
def backend() -> Iterator[Server]:
    """An instance that answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "5")
            self.end_headers()
            self.wfile.write(b"alive")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Server(name="alive", address="127.0.0.1", port=server.server_port, concurrency=10)
        server.shutdown()
        thread.join()


def a_table(*servers: Server, slot: int = 0) -> RoutingTable:
    """`shop` with *servers*; without any, no slot is held."""
    held = {"r1": slot} if servers else {}
    return RoutingTable(
        hosts={"shop.localhost": "shop"},
        routes={"shop": (Share("r1", 100),)},
        slots=held,
        servers={slot: servers} if servers else {},
    )


def test_a_request_whose_instance_has_gone_when_it_is_tried_again_finds_another(
    backend: Server,
) -> None:
    questions: list[Question] = []
    there = {"gone": NOBODY, "alive": backend}

    def make_table(instances: Iterable[Instance], slots: Mapping[str, int]) -> RoutingTable:
        servers = tuple(there[instance.id] for instance in instances)
        table = {slot: servers for slot in slots.values() if servers}
        return replace(a_table(), slots=dict(slots), servers=table)

    async def story() -> None:
        async def answer(question: Question) -> str:
            questions.append(question)
            await keeper.apply([an_instance("alive")])
            return "go"

        async with ingress(answer) as world:
            keeper = IngressKeeper(world.haproxy, make_table)
            await keeper.apply([an_instance("gone")])
            request = asyncio.create_task(world.ask())
            await asyncio.sleep(0.3)  # refused by now; HAProxy tries again after a second
            await keeper.apply([])
            assert questions == []

            answered = await request

            assert (answered.status, answered.body) == (200, b"alive")
            assert questions == [Question("r1", 1)]

    asyncio.run(story())


def an_instance(id: str) -> Instance:
    return Instance(id=id, revision="r1", state=InstanceState.READY)


def test_a_go_that_nobody_can_follow_any_more_is_asked_for_again(backend: Server) -> None:
    asked = 0

    async def story() -> None:
        async def answer(question: Question) -> str:
            nonlocal asked
            asked += 1
            if asked == 3:
                await world.haproxy.apply(a_table(backend))
            return "go"

        async with ingress(answer) as world:
            answered = await world.ask()

            assert (answered.status, answered.body) == (200, b"alive")
            assert asked == 3

    asyncio.run(story())


def test_what_changes_while_the_files_are_written_is_written_too(backend: Server) -> None:
    many = {
        f"h{number}.localhost": "shop" for number in range(3000)
    }  # written in some milliseconds

    async def story() -> None:
        async with ingress(never) as world:
            keeper = IngressKeeper(world.haproxy, lambda _, __: table)
            slots = world.haproxy.start.map_path("slots")
            for step in range(25):
                table = replace(a_table(backend, slot=0), hosts=many)
                await keeper.apply([])
                await asyncio.sleep(WRITE_DELAY_S + step / 1000)
                table = replace(a_table(backend, slot=1), hosts=many)
                await keeper.apply([])

                await keeper.written()

                assert slots.read_text() == "r1 s1\n"

    asyncio.run(story())


def test_what_a_killed_controller_had_half_opened_is_opened(backend: Server) -> None:
    async def story() -> None:
        async with ingress(never) as world:
            haproxy = world.haproxy
            address = f"{backend.address}:{backend.port}"
            await haproxy._ask(
                [f"add server s0/alive {address} weight 0", "set server s0/alive state ready"]
            )

            await haproxy.apply(a_table(backend))

            assert (await world.ask()).body == b"alive"

    asyncio.run(story())


async def never(question: Question) -> str:
    raise AssertionError(f"nobody should be asked: {question}")


@contextlib.contextmanager
def named_server(path: Path, name: str) -> Iterator[None]:
    """Answers every request on a unix socket with its name and the request's path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{name} {self.path}".encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def address_string(self) -> str:
            return "unix"

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def ask_for(port: int, host: str, path: str) -> tuple[int, str, str]:
    """Status, body and kind of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": f"{host}:{port}"})
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers["content-type"] or ""
    finally:
        connection.close()


async def say_go(_: Question) -> str:
    return "go"


def test_paths_of_images_go_to_the_registry_and_those_of_services_to_the_controller() -> None:
    cases = {
        ("localhost", "/v2/"): "registry",
        ("localhost", "/v2"): "registry",
        ("127.0.0.1", "/v2/shop/apps/web/manifests/v1"): "registry",
        ("localhost", "/v2/_catalog?n=2"): "registry",
        ("localhost", "/v2/token?service=localhost"): "registry",
        ("localhost", "/token?service=localhost"): "registry",
        ("localhost", "/v2/projectsx/apps/web/tags/list"): "registry",
        ("localhost", "/v2/projects/shop/locations/local/services"): "api",
        ("localhost", "/v1/projects/shop/locations/local/repositories"): "api",
        ("europe-west1-docker.pkg.dev", "/v2/shop/apps/web/manifests/v1"): "registry",
        ("Europe-West1-docker.pkg.dev", "/v2/"): "registry",
        ("local-docker.pkg.dev", "/v2/projects/apps/web/tags/list"): "registry",
        ("local-docker.pkg.dev", "/v1/projects/shop/locations/local/repositories"): "",
        ("docker.pkg.dev", "/v2/"): "",
        ("hub.test", "/v2/library/nginx/manifests/latest"): "registry",
        ("hub.test", "/v1/projects/shop/locations/local/repositories"): "",
        ("localhost", "/metrics"): "",
        ("localhost", "/tokens"): "",
        ("other.localhost", "/v2/"): "",
    }

    async def story() -> None:
        async with ingress(say_go) as world:
            folder = world.haproxy.start.folder
            with (
                named_server(folder / "api.sock", "api"),
                named_server(folder / "registry.sock", "registry"),
            ):
                for (host, path), owner in cases.items():
                    status, body, _ = await asyncio.to_thread(ask_for, world.port, host, path)
                    assert (status, body) == (200, f"{owner} {path}") if owner else status == 404, (
                        host,
                        path,
                        body,
                    )

    asyncio.run(story())


def test_while_the_registry_does_not_answer_its_clients_are_told_so_in_their_own_words() -> None:
    async def story() -> None:
        async with ingress(say_go) as world:
            status, body, kind = await asyncio.to_thread(ask_for, world.port, "localhost", "/v2/")

            assert (status, kind) == (503, "application/json")
            assert json.loads(body)["errors"][0]["code"] == "UNAVAILABLE"

    asyncio.run(story())
