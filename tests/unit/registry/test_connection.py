"""One connection's life, over a real pair of sockets and an endpoint of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hakobune.registry.answer import Answer, FilePart, json_answer
from hakobune.registry.arriving import BodyError, ClientGoneError
from hakobune.registry.connection import Connection
from hakobune.registry.head import HEAD_LIMIT, Head
from hakobune.registry.limits import Limits
from hakobune.registry.peer import Peer
from hakobune.registry.route import Route, find_route

ANYBODY = Peer(False, "test")
Endpoint = Callable[[Connection, Head], Awaitable[Answer]]


class Server:
    """As much of a worker as a connection needs."""

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.limits = limits
        self.stopping = False
        self.recorded: list[int] = []
        self._endpoint = endpoint

    def find_route(self, path: str, host: str = "") -> Route:
        return find_route(path)

    def answer_hot(self, connection: Connection, head: Head, route: Route) -> bool:
        return False

    def answer_repeat(self, connection: Connection, data: bytes) -> bool:
        return False

    async def answer(self, connection: Connection, head: Head, route: Route) -> Answer:
        return await self._endpoint(connection, head)

    def record(self, connection: Connection, status: int) -> None:
        self.recorded.append(status)


class World:
    """A server and a client at the two ends of a socket."""

    def __init__(self, server: Server, client: socket.socket) -> None:
        self.server = server
        self.client = client
        self._loop = asyncio.get_running_loop()

    @property
    def connection(self) -> Connection:
        (connection,) = self.server.connections
        return connection

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.client, data)

    async def read(self, until: bytes = b"") -> bytes:
        """All that comes until *until* has come, or the end."""
        data = b""
        async with asyncio.timeout(5):
            while not until or until not in data:
                piece = await self._loop.sock_recv(self.client, 65536)
                if not piece:
                    break
                data += piece
        return data


def run(
    test: Callable[[World], Awaitable[None]],
    endpoint: Endpoint | None = None,
    limits: Limits | None = None,
    peer: Peer = ANYBODY,
) -> None:
    async def main() -> None:
        server = Server(endpoint or hello, limits or Limits())
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        with near:
            await loop.connect_accepted_socket(
                lambda: Connection(server, lambda transport: peer), far
            )
            await test(World(server, near))
            for connection in list(server.connections):
                connection.abort()
            await asyncio.sleep(0)
            if server.tasks:
                await asyncio.wait(server.tasks, timeout=5)
            await asyncio.sleep(0)

    asyncio.run(main())


async def hello(connection: Connection, head: Head) -> Answer:
    return json_answer(200, {"path": head.path})


async def echo(connection: Connection, head: Head) -> Answer:
    collected = bytearray()
    await connection.receive(collected.extend)
    return Answer(status=200, body=bytes(collected))


def request(method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: x", *lines, "", "")).encode() + body


def test_requests_that_come_together_are_answered_in_order() -> None:
    async def test(world: World) -> None:
        await world.send(b"".join(request("GET", f"/{n}") for n in range(50)))
        answers = await world.read(b'"/49"}')

        assert [answers.index(f'"/{n}"'.encode()) for n in range(50)] == sorted(
            answers.index(f'"/{n}"'.encode()) for n in range(50)
        )
        assert answers.count(b"HTTP/1.1 200 OK") == 50

    run(test)


def test_a_head_may_come_byte_by_byte() -> None:
    async def test(world: World) -> None:
        for byte in request("GET", "/slow"):
            await world.send(bytes([byte]))
            await asyncio.sleep(0)

        assert b'{"path":"/slow"}' in await world.read(b"}")

    run(test)


def test_a_head_is_never_answered_with_a_body() -> None:
    async def test(world: World) -> None:
        await world.send(request("HEAD", "/a") + request("GET", "/b"))
        answers = await world.read(b'"/b"}')

        first, second = answers.split(b"\r\n\r\n", 1)
        assert b"Content-Length: 13" in first
        assert second.startswith(b"HTTP/1.1 200 OK")

    run(test)


def test_tls_at_a_plain_port_is_refused_at_once() -> None:
    async def test(world: World) -> None:
        await world.send(b"\x16\x03\x01\x02\x00\x01")

        assert (await world.read()).startswith(b"HTTP/1.1 400 ")

    run(test)


def test_a_head_without_end_is_refused() -> None:
    async def test(world: World) -> None:
        await world.send(b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_LIMIT)

        assert (await world.read()).startswith(b"HTTP/1.1 431 ")

    run(test)


def test_what_cannot_be_read_ends_the_connection() -> None:
    async def test(world: World) -> None:
        await world.send(b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n" + request("GET", "/b"))

        answers = await world.read()
        assert answers.startswith(b"HTTP/1.1 400 ")
        assert answers.count(b"HTTP/1.1") == 1
        assert world.server.recorded == [400]

    run(test)


@pytest.mark.parametrize("cut", [0, 1, 5, 1000])
def test_a_body_is_streamed_whenever_it_comes(cut: int) -> None:
    async def test(world: World) -> None:
        body = bytes(range(256)) * 400
        chunked = b"".join(
            b"%x\r\n%b\r\n" % (1000, body[n : n + 1000]) for n in range(0, 102000, 1000)
        )
        chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (400, body[102000:])
        whole = request("PUT", "/a", "Transfer-Encoding: chunked", body=chunked)
        whole += request("PUT", "/b", f"Content-Length: {len(body)}", body=body)
        await world.send(whole[: 60 + cut])
        await asyncio.sleep(0.01)
        await world.send(whole[60 + cut :] + request("GET", "/c", "Content-Length: 3", body=b"end"))

        answers = await world.read(b"end")
        assert answers.count(body) == 2

    run(test, echo)


def test_continue_is_said_when_the_body_is_wanted() -> None:
    async def test(world: World) -> None:
        await world.send(request("PUT", "/a", "Content-Length: 3", "Expect: 100-continue"))
        assert await world.read(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await world.send(b"abc")

        assert (await world.read(b"abc")).startswith(b"HTTP/1.1 200 OK")

    run(test, echo)


def test_a_refusal_is_not_preceded_by_continue_and_ends_the_connection() -> None:
    async def test(world: World) -> None:
        await world.send(request("PUT", "/a", "Content-Length: 3", "Expect: 100-continue"))
        answer = await world.read()

        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"Connection: close" in answer

    run(test, hello)


def test_a_small_body_that_nobody_wants_is_read_over() -> None:
    async def test(world: World) -> None:
        await world.send(request("PUT", "/a", "Content-Length: 2000", body=b"x" * 1000))
        assert b"Connection: close" not in await world.read(b"}")
        await world.send(b"x" * 1000 + request("GET", "/b"))

        assert b'"/b"' in await world.read(b"}")

    run(test, hello)


def test_a_large_body_that_nobody_wants_ends_the_connection_but_not_the_answer() -> None:
    async def test(world: World) -> None:
        await world.send(request("PUT", "/a", "Content-Length: 20000000", body=b"x" * 100_000))
        answer = await world.read()

        assert b"Connection: close" in answer
        assert answer.endswith(b'{"path":"/a"}')
        await world.send(b"x" * 1000)

    run(test, hello)


def test_the_endpoint_is_told_of_a_client_that_vanishes() -> None:
    seen: list[BaseException] = []

    async def endpoint(connection: Connection, head: Head) -> Answer:
        try:
            await connection.receive(lambda data: None)
        except BaseException as error:
            seen.append(error)
            raise
        raise AssertionError("the body was not whole")

    async def test(world: World) -> None:
        await world.send(request("PUT", "/a", "Content-Length: 10", body=b"abc"))
        await asyncio.sleep(0.01)
        world.client.close()
        await asyncio.sleep(0.01)

        assert [type(error) for error in seen] == [ClientGoneError]
        assert world.server.recorded == [499]

    run(test, endpoint)


def test_a_broken_chunk_is_the_endpoints_to_answer_and_ends_the_connection() -> None:
    async def endpoint(connection: Connection, head: Head) -> Answer:
        try:
            await connection.receive(lambda data: None)
        except BodyError as error:
            return Answer(status=400, body=str(error).encode())
        raise AssertionError("the body was taken")

    async def test(world: World) -> None:
        await world.send(request("PUT", "/a", "Transfer-Encoding: chunked", body=b"zz\r\nabc\r\n"))
        answer = await world.read()

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"Connection: close" in answer

    run(test, endpoint)


def test_what_the_sink_raises_is_the_endpoints() -> None:
    async def endpoint(connection: Connection, head: Head) -> Answer:
        def full(data: memoryview) -> None:
            raise OSError("no space left")

        with pytest.raises(OSError, match="no space left"):
            await connection.receive(full)
        return Answer(status=507)

    async def test(world: World) -> None:
        await world.send(request("PUT", "/a", "Content-Length: 5000000", body=b"x" * 100_000))

        assert (await world.read()).startswith(b"HTTP/1.1 507 ")

    run(test, endpoint)


def test_an_old_client_is_answered_and_let_go() -> None:
    async def test(world: World) -> None:
        await world.send(b"GET /a HTTP/1.0\r\n\r\n")

        assert (await world.read()).endswith(b'{"path":"/a"}')

    run(test)


def test_an_endpoint_that_fails_ends_the_connection_and_is_recorded() -> None:
    async def endpoint(connection: Connection, head: Head) -> Answer:
        raise RuntimeError("a fault of the test's")

    async def test(world: World) -> None:
        await world.send(request("GET", "/a"))

        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = await world.read()
        assert answer == b""
        assert world.server.recorded == [500]

    run(test, endpoint)


@pytest.mark.parametrize(
    ("sent", "seconds", "answered"), [(b"", 76, b""), (b"GET / HT", 11, b"HTTP/1.1 408 ")]
)
def test_a_client_that_says_nothing_is_let_go(sent: bytes, seconds: int, answered: bytes) -> None:
    async def test(world: World) -> None:
        await world.send(sent)
        await asyncio.sleep(0.01)
        world.connection.check(time.monotonic() + seconds - 2)
        assert world.server.connections
        world.connection.check(time.monotonic() + seconds)

        assert (await world.read()).startswith(answered)

    run(test)


def test_a_body_that_stands_still_is_broken_off() -> None:
    async def test(world: World) -> None:
        await world.send(request("PUT", "/a", "Content-Length: 10", body=b"abc"))
        await asyncio.sleep(0.01)
        world.connection.check(time.monotonic() + 61)
        world.connection.check(time.monotonic() + 122)
        await asyncio.sleep(0.01)

        assert world.server.recorded == [499]
        assert not world.server.connections

    run(test, echo)


def test_an_answer_that_is_not_read_is_broken_off() -> None:
    async def endpoint(connection: Connection, head: Head) -> Answer:
        return Answer(status=200, body=bytes(8_000_000))

    async def test(world: World) -> None:
        await world.send(request("GET", "/a"))
        await asyncio.sleep(0.01)
        world.connection.check(time.monotonic() + 61)
        world.connection.check(time.monotonic() + 122)
        await asyncio.sleep(0.01)

        assert world.server.recorded == [499]

    run(test, endpoint)


def test_one_connection_too_many_is_told_so() -> None:
    async def test(world: World) -> None:
        assert (await world.read()).startswith(b"HTTP/1.1 503 ")

    run(test, limits=Limits(connections=0))


def test_a_worker_that_ends_answers_what_is_under_way() -> None:
    async def test(world: World) -> None:
        await world.send(request("PUT", "/a", "Content-Length: 4", body=b"ab"))
        await asyncio.sleep(0.01)
        world.connection.end_when_idle()
        await world.send(b"cd")

        answer = await world.read()
        assert b"Connection: close" in answer
        assert answer.endswith(b"abcd")

    run(test, echo)


class Growing:
    """A file that stops growing after its first half."""

    def __init__(self, path: Path, half: int) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        self.closed = False
        self._half = half

    async def wait(self, beyond: int) -> int:
        if beyond >= self._half:
            await asyncio.Event().wait()
        return self._half

    def close(self) -> None:
        os.close(self.descriptor)
        self.closed = True


def test_nobody_waits_for_an_upstream_when_the_client_is_gone(tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(bytes(1000))
    growing = Growing(tmp_path / "partial", 500)

    async def endpoint(connection: Connection, head: Head) -> Answer:
        return Answer(status=200, body=FilePart(growing.descriptor, 0, 1000, growing))

    async def test(world: World) -> None:
        await world.send(request("GET", "/a"))
        answer = await world.read(bytes(500))
        assert b"Content-Length: 1000" in answer
        world.connection.abort()
        await asyncio.sleep(0.05)

        assert growing.closed
        assert world.server.recorded == [499]

    run(test, endpoint)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("10.0.0.1, 2001:db8::1", "2001:db8::1"),
        ('"},{"client":"x', "proxy"),
        ("", "proxy"),
    ],
)
def test_behind_a_proxy_the_client_is_who_the_proxy_says(forwarded: str, client: str) -> None:
    seen: list[str] = []

    async def endpoint(connection: Connection, head: Head) -> Answer:
        seen.append(connection.client)
        return Answer(status=200)

    async def test(world: World) -> None:
        await world.send(request("GET", "/a", f"X-Forwarded-For: {forwarded}"))
        await world.read(b"\r\n\r\n")

        assert seen == [client]

    run(test, endpoint, peer=Peer(False, "proxy", via_proxy=True))


def test_a_client_may_not_say_who_it_is_itself() -> None:
    seen: list[str] = []

    async def endpoint(connection: Connection, head: Head) -> Answer:
        seen.append(connection.client)
        return Answer(status=200)

    async def test(world: World) -> None:
        await world.send(request("GET", "/a", "X-Forwarded-For: 192.0.2.1"))
        await world.read(b"\r\n\r\n")

        assert seen == ["test"]

    run(test, endpoint)
