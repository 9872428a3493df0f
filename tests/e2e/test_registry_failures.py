"""What goes wrong around a registry, made to go wrong: kill -9, full disks, vanishing clients, locked databases."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.postgresql_cluster import running_cluster
from tests.registry_client import RegistryHttp, digest_of, image_manifest
from tests.registry_server import HakoRegistry, hako_registry

MEBIBYTE = 1 << 20
NAME = "shop/apps/web"
HAKO = Path(__file__).resolve().parents[2] / "hako"


@pytest.fixture(scope="module")
def registry() -> Iterator[HakoRegistry]:
    with hako_registry() as running:
        yield running


@pytest.fixture
def http(registry: HakoRegistry) -> Iterator[RegistryHttp]:
    with registry.as_owner() as http:
        yield http


def connect(registry: HakoRegistry) -> socket.socket:
    """The owner's socket, raw."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(socket.socket(socket.AF_UNIX))
        raw.settimeout(30)
        raw.connect(str(registry.owner_socket))
        stack.pop_all()
    return raw


def head(method: str, target: str, *lines: str) -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: x", *lines, "", "")).encode()


def status_of(raw: socket.socket) -> int:
    """The status of the next answer, whose head is read."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = raw.recv(1)
        assert piece, f"the connection ended after {data!r}"
        data += piece
    return int(data.split(b" ", 2)[1])


def begin(http: RegistryHttp, name: str = NAME) -> str:
    answer = http.send("POST", f"/v2/{name}/blobs/uploads/")
    assert answer.status == 202
    return answer.header("location")


def blob_file(registry: HakoRegistry, digest: str) -> Path:
    algorithm, _, digits = digest.partition(":")
    return registry.home / "registry/blobs" / algorithm / digits[:2] / digits


def check_files(registry: HakoRegistry) -> None:
    """Every stored file has the bytes that its name says."""
    for path in (registry.home / "registry/blobs").rglob("*"):
        if path.is_file():
            done = subprocess.run([f"{path.parts[-3]}sum", path], capture_output=True, text=True)
            assert done.stdout.split()[0] == path.name


def verify(registry: HakoRegistry) -> list[str]:
    """The digests of what `hako registry verify` finds damaged, and has taken away."""
    done = subprocess.run(
        [HAKO, "registry", "verify", "--format", "json"],
        env={
            "PATH": os.environ["PATH"],
            "HAKO_HOME": str(registry.home),
            **registry.environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stderr
    problems = json.loads(done.stdout)["problems"]
    assert done.returncode == bool(problems)
    return [problem["digest"] for problem in problems]


# kill -9

UPLOAD_POINTS = (
    "upload-received", "upload-saved", "blob-stored", "blob-committing", "blob-committed",
)  # fmt: skip


@pytest.mark.parametrize("point", UPLOAD_POINTS)
def test_an_upload_goes_on_or_begins_again_after_a_kill(point: str) -> None:
    data = os.urandom(300_000)
    digest = digest_of(data)
    with hako_registry() as registry:
        with registry.as_owner() as http:
            location = begin(http)
        registry.stop()
        registry.start(HAKO_CRASH_POINT=point)
        with registry.as_owner() as http, contextlib.suppress(OSError, ConnectionError):
            first = http.send("PATCH", location, data[:200_000])
            if first.status == 202:
                http.send("PUT", location, data[200_000:], parameters=[("digest", digest)])
            raise AssertionError(f"it was not killed at {point}")
        registry.kill()
        registry.start()

        with registry.as_owner() as http:
            asked = http.send("GET", location)
            assert asked.status in (204, 404)
            if asked.status == 404:
                location, done = begin(http), 0
            else:
                last = int(asked.header("range").removeprefix("0-"))
                done = last + 1 if last else 0
            assert done in (0, 200_000, 300_000)
            closed = http.send("PUT", location, data[done:], parameters=[("digest", digest)])
            assert closed.status == 201
            assert http.send("GET", f"/v2/{NAME}/blobs/{digest}").body == data
        check_files(registry)
        assert verify(registry) == []


@pytest.mark.parametrize("point", ["manifest-received", "manifest-committed"])
def test_a_tag_is_the_old_image_or_the_new_one_after_a_kill(point: str) -> None:
    with hako_registry() as registry:
        with registry.as_owner() as http:
            old = http.push_image(NAME, "1", b"the old layer")
            layer = http.push_blob(NAME, b"the new layer")
        registry.stop()
        registry.start(HAKO_CRASH_POINT=point)
        body = image_manifest([(layer, 13)])
        with registry.as_owner() as http, contextlib.suppress(OSError):
            http.push_manifest(NAME, "1", body)
            raise AssertionError(f"it was not killed at {point}")
        registry.kill()
        registry.start()

        with registry.as_owner() as http:
            found = http.send("GET", f"/v2/{NAME}/manifests/1")
            expected = old if point == "manifest-received" else digest_of(body)
            assert digest_of(found.body) == expected
            assert http.push_manifest(NAME, "1", body).status == 201
            assert http.send("GET", f"/v2/{NAME}/manifests/1").body == body
        assert verify(registry) == []


@dataclass
class Pushers:
    """Threads that push images as long as they are let, again if a push fails; and what was acknowledged."""

    registry: HakoRegistry
    blobs: dict[str, tuple[str, int]] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def push(self, number: int) -> None:
        turn = random.Random(number)
        round = 0
        while not self.ended.is_set():
            round += 1
            try:
                with self.registry.as_owner(timeout_s=20) as http:
                    self._push_image(http, f"shop/r{number % 2}/i{number}", f"t{round}", turn)
            except (OSError, ConnectionError, TimeoutError):
                time.sleep(0.02)  # a worker was killed
            except Exception as error:
                if "Remote" in type(error).__name__ or "Incomplete" in type(error).__name__:
                    continue
                self.failures.append(repr(error))
                return

    def _push_image(self, http: RegistryHttp, name: str, tag: str, turn: random.Random) -> None:
        layers = []
        for data in (turn.randbytes(turn.randrange(1, 200_000)), b"shared", b"{}"):
            digest = http.push_blob(name, data)
            self.blobs[f"{name}@{digest}"] = (digest, len(data))
            layers.append((digest, len(data)))
        body = image_manifest(layers)
        answer = http.push_manifest(name, tag, body)
        assert answer.status == 201, (answer.status, answer.body)
        self.tags[name, tag] = digest_of(body)

    def check(self) -> None:
        """Everything that was acknowledged is there."""
        assert self.failures == []
        with self.registry.as_owner() as http:
            for (name, tag), digest in self.tags.items():
                answer = http.send("GET", f"/v2/{name}/manifests/{tag}")
                assert (answer.status, digest_of(answer.body)) == (200, digest)
            for key, (digest, size) in self.blobs.items():
                answer = http.send("GET", f"/v2/{key.partition('@')[0]}/blobs/{digest}")
                assert (answer.status, len(answer.body)) == (200, size)
                assert digest_of(answer.body) == digest


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What is to be said of where the metadata is."""
    if request.param == "SQLite":
        yield {}
        return
    with running_cluster() as cluster:
        yield {"HAKO_REGISTRY_DATABASE": cluster.new_database()}


def test_nothing_that_was_acknowledged_is_lost_when_workers_are_killed_again_and_again(
    database: dict[str, str],
) -> None:
    with hako_registry(environment=database) as registry:
        pushers = Pushers(registry)
        kills = 0
        turn = random.Random(1)
        with ThreadPoolExecutor(4) as threads:
            done = [threads.submit(pushers.push, number) for number in range(4)]
            end = time.monotonic() + 8
            try:
                while time.monotonic() < end:
                    time.sleep(turn.uniform(0.05, 0.4))
                    children = registry.children()
                    if children:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(turn.choice(children), signal.SIGKILL)
                            kills += 1
            finally:
                pushers.ended.set()
            for one in done:
                one.result()

        assert kills > 10
        assert len(pushers.tags) > 10
        pushers.check()
        registry.kill()
        registry.start()
        pushers.check()
        check_files(registry)
        assert verify(registry) == []


def test_a_killed_worker_and_a_killed_keeper_are_started_again(registry: HakoRegistry) -> None:
    before = set(registry.children())
    for pid in before:
        os.kill(pid, signal.SIGKILL)

    end = time.monotonic() + 15
    while time.monotonic() < end and (
        len(registry.children()) < len(before) or before & set(registry.children())
    ):
        time.sleep(0.05)

    assert len(registry.children()) == len(before)
    with registry.as_owner() as http:
        assert http.send("GET", "/v2/").status == 200


def test_a_migration_that_is_killed_is_made_again() -> None:
    with hako_registry() as registry, ThreadPoolExecutor(1) as threads:
        registry.stop()
        starting = threads.submit(registry.start)
        killed = 0
        while not killed and not starting.done():
            with contextlib.suppress(OSError, AssertionError):
                for pid in registry.children():
                    if b"hakobune.state.migrate" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(pid, signal.SIGKILL)
                        killed += 1

        starting.result(30)
        assert killed == 1
        with registry.as_owner() as http:
            assert http.send("GET", "/v2/").status == 200


# Order of what is written


def test_a_blob_and_a_tag_are_on_disk_before_they_are_promised(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    strace = ("strace", "-D", "-f", "-y", "-s", "60", "-e", "trace=fsync,fdatasync,link,linkat,rename,sendto,write,writev,sendmsg", "-o", str(trace))  # fmt: skip
    data = os.urandom(100_000)
    digest = digest_of(data)
    with hako_registry(prefix=strace) as registry, registry.as_owner() as http:
        http.push_blob(NAME, b"warm")
        http.push_blob(NAME, b"{}")
        at = len(trace.read_text().splitlines())
        http.push_blob(NAME, data)
        assert http.push_manifest(NAME, "1", image_manifest([(digest, len(data))])).status == 201
        time.sleep(0.3)
        lines = trace.read_text().splitlines()[at:]

    def first(*words: str, after: int = 0) -> int:
        for number, line in enumerate(lines):
            if number >= after and all(word in line for word in words):
                return number
        raise AssertionError(f"{words} is not in\n" + "\n".join(lines))

    file = first("sync(", "/uploads/")
    linked = first("link", digest.partition(":")[2], after=file)
    folder = first("sync(", f"/blobs/sha256/{digest[7:9]}>", after=linked)
    database = first("sync(", "meta.db", after=folder)
    blob_told = first("201 Created", after=database)
    first("201 Created", after=first("sync(", "meta.db", after=blob_told))


# Clients


def test_two_pushes_of_one_blob_at_once_both_succeed(registry: HakoRegistry) -> None:
    data = os.urandom(2 * MEBIBYTE)
    digest = digest_of(data)
    ready = threading.Barrier(6)

    def push(number: int) -> int:
        with registry.as_owner() as http:
            name = f"shop/twice{number % 2}/web"
            location = begin(http, name)
            assert http.send("PATCH", location, data).status == 202
            ready.wait(10)
            return http.send("PUT", location, parameters=[("digest", digest)]).status

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(push, range(6))) == [201] * 6
    with registry.as_owner() as http:
        for number in range(2):
            assert http.send("GET", f"/v2/shop/twice{number}/web/blobs/{digest}").body == data
    assert blob_file(registry, digest).stat().st_nlink == 1


def test_a_session_has_one_writer_at_a_time(registry: HakoRegistry, http: RegistryHttp) -> None:
    data = os.urandom(10_000)
    location = begin(http)
    with connect(registry) as raw:
        raw.sendall(head("PATCH", location, f"Content-Length: {len(data)}") + data[:5000])
        time.sleep(0.3)

        second = http.send("PATCH", location, b"other")
        closing = http.send("PUT", location, parameters=[("digest", digest_of(data))])
        raw.sendall(data[5000:])
        assert status_of(raw) == 202

    assert (second.status, closing.status) == (409, 409)
    assert http.send("GET", location).header("range") == "0-9999"
    closed = http.send("PUT", location, parameters=[("digest", digest_of(data))])
    assert closed.status == 201


def test_a_client_that_vanishes_leaves_what_it_has_sent(
    registry: HakoRegistry, http: RegistryHttp
) -> None:
    data = os.urandom(50_000)
    location = begin(http)
    with connect(registry) as raw:
        raw.sendall(head("PATCH", location, "Content-Length: 50000") + data[:20_000])
        time.sleep(0.2)
    time.sleep(0.2)

    assert http.send("GET", location).header("range") == "0-19999"
    rest = http.send("PATCH", location, data[20_000:], Content_Range="20000-49999")
    assert rest.status == 202
    closed = http.send("PUT", location, parameters=[("digest", digest_of(data))])
    assert closed.status == 201
    assert http.send("GET", f"/v2/{NAME}/blobs/{digest_of(data)}").body == data


def test_a_client_that_vanishes_in_the_middle_of_a_chunk_leaves_whole_bytes(
    registry: HakoRegistry, http: RegistryHttp
) -> None:
    location = begin(http)
    with connect(registry) as raw:
        raw.sendall(
            head("PATCH", location, "Transfer-Encoding: chunked")
            + b"64\r\n" + b"a" * 100 + b"\r\n64\r\n" + b"b" * 30
        )  # fmt: skip
        time.sleep(0.2)
    time.sleep(0.2)

    assert http.send("GET", location).header("range") == "0-129"


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
def test_a_session_in_a_repository_that_is_not_there_makes_none(
    http: RegistryHttp, method: str
) -> None:
    answer = http.send(method, f"/v2/p/absent-{method.lower()}/i/blobs/uploads/{'0' * 32}")
    listed = http.send("GET", "/v2/_catalog")

    assert answer.status == 404
    assert b"absent" not in listed.body
    tags = http.send("GET", f"/v2/p/absent-{method.lower()}/i/tags/list")
    assert tags.code == "NAME_UNKNOWN"


def test_a_chunk_that_is_not_as_long_as_it_says_is_refused(http: RegistryHttp) -> None:
    location = begin(http)

    answer = http.send("PATCH", location, b"12345", Content_Range="0-9")

    assert (answer.status, answer.code) == (400, "SIZE_INVALID")


def test_other_bytes_than_the_digests_are_refused_and_removed(
    registry: HakoRegistry, http: RegistryHttp
) -> None:
    digest = digest_of(os.urandom(10))
    location = begin(http)

    answer = http.send("PUT", location, b"other", parameters=[("digest", digest)])

    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert http.send("GET", location).status == 404
    assert not blob_file(registry, digest).exists()
    assert not (registry.home / "registry/uploads" / location.rpartition("/")[2]).exists()


def test_a_transfer_ends_although_the_blob_is_deleted_and_its_file_gone(
    registry: HakoRegistry, http: RegistryHttp
) -> None:
    data = os.urandom(24 * MEBIBYTE)
    digest = http.push_blob("shop/gone/web", data)
    with connect(registry) as raw:
        raw.sendall(head("GET", f"/v2/shop/gone/web/blobs/{digest}"))
        assert status_of(raw) == 200
        got = bytearray(raw.recv(1 << 16))

        assert http.send("DELETE", f"/v2/shop/gone/web/blobs/{digest}").status == 202
        blob_file(registry, digest).unlink(missing_ok=True)
        while len(got) < len(data):
            piece = raw.recv(1 << 20)
            assert piece, f"it ended after {len(got)} bytes"
            got += piece
            time.sleep(0.005)

    assert bytes(got) == data
    assert http.send("GET", f"/v2/shop/gone/web/blobs/{digest}").status == 404


def test_a_file_that_is_gone_is_never_promised(registry: HakoRegistry, http: RegistryHttp) -> None:
    digest = http.push_blob("shop/lost/web", os.urandom(1000))
    assert http.send("GET", f"/v2/shop/lost/web/blobs/{digest}").status == 200
    blob_file(registry, digest).unlink()

    for method in ("GET", "HEAD"):
        assert http.send(method, f"/v2/shop/lost/web/blobs/{digest}").status in (404, 500)


def test_rotten_bytes_are_found_taken_away_and_healed_by_a_push(
    registry: HakoRegistry, http: RegistryHttp
) -> None:
    name, data = "shop/rotten/web", os.urandom(50_000)
    digest = http.push_blob(name, data)
    tag = http.push_image(name, "1", data)
    path = blob_file(registry, digest)
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(1234)
        file.write(bytes([data[1234] ^ 1]))

    assert digest in verify(registry)
    for method in ("GET", "HEAD"):
        assert http.send(method, f"/v2/{name}/blobs/{digest}").status == 404
    kept = [p.name for p in (registry.home / "registry/quarantine").iterdir()]
    assert any(digest.partition(":")[2] in one for one in kept)
    again = http.push_manifest(name, "2", image_manifest([(digest, len(data))]))
    assert (again.status, again.code) == (400, "MANIFEST_BLOB_UNKNOWN")

    assert http.push_image(name, "1", data) == tag
    assert http.send("GET", f"/v2/{name}/blobs/{digest}").body == data
    assert digest not in verify(registry)


# Slow clients


def test_heads_that_never_end_are_given_ten_seconds_and_hinder_nobody(
    registry: HakoRegistry,
) -> None:
    digest = ""
    with registry.as_owner() as http:
        digest = http.push_blob(NAME, os.urandom(100_000))
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(registry)) for _ in range(300)]
        for raw in slow:
            raw.sendall(b"GET /v2/ HT")
        begun = time.monotonic()
        waits = []
        http = stack.enter_context(registry.as_owner())
        while time.monotonic() - begun < 8:
            asked = time.monotonic()
            assert http.send("GET", f"/v2/{NAME}/blobs/{digest}").status == 200
            waits.append(time.monotonic() - asked)
            for raw in slow[:20]:
                raw.sendall(b"x")  # a byte now and then does not help
            time.sleep(0.05)
        for raw in slow:
            raw.settimeout(8)
            assert status_of(raw) == 408
        assert time.monotonic() - begun < 16
        assert sorted(waits)[int(len(waits) * 0.99)] < 0.5


@pytest.mark.slow
def test_a_body_that_stands_still_is_given_a_minute(registry: HakoRegistry) -> None:
    with registry.as_owner() as http:
        location = begin(http)
    with connect(registry) as raw:
        raw.settimeout(80)
        raw.sendall(head("PATCH", location, "Content-Length: 1000") + b"abc")
        begun = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(100) == b""
        assert 20 < time.monotonic() - begun < 70  # too slow after 30 s, still after 60
    time.sleep(0.3)  # what has come is noted
    with registry.as_owner() as http:
        assert http.send("GET", location).header("range") == "0-2"


@pytest.mark.slow
def test_a_connection_that_asks_nothing_more_is_closed_after_75_seconds(
    registry: HakoRegistry,
) -> None:
    with connect(registry) as raw:
        raw.settimeout(100)
        raw.sendall(head("HEAD", "/v2/"))
        assert status_of(raw) == 200
        begun = time.monotonic()
        raw.recv(100)
        assert 70 < time.monotonic() - begun < 85


@pytest.mark.slow
def test_a_reader_that_stands_still_is_cut_off(registry: HakoRegistry) -> None:
    with registry.as_owner() as http:
        digest = http.push_blob(NAME, os.urandom(30 * MEBIBYTE))
    with connect(registry) as raw:
        raw.sendall(head("GET", f"/v2/{NAME}/blobs/{digest}"))
        assert status_of(raw) == 200
        time.sleep(75)
        raw.settimeout(10)
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := raw.recv(1 << 20):
                got += len(piece)
    assert got < 30 * MEBIBYTE


def test_tls_on_the_plain_port_is_refused_at_once(registry: HakoRegistry) -> None:
    with socket.create_connection(("127.0.0.1", registry.port), 10) as raw:
        begun = time.monotonic()
        raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(50))
        raw.recv(1000)
        assert time.monotonic() - begun < 1


# Two readers of one request


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\n",
        b"X: y\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: +4\r\n",
    ],
)
def test_a_request_in_a_request_is_never_answered(framing: bytes, registry: HakoRegistry) -> None:
    hidden = b"GET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(registry) as raw:
        raw.sendall(
            b"POST /v2/shop/apps/web/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n"
            b"0\r\n\r\n" + hidden
        )  # fmt: skip
        raw.settimeout(10)
        data = b""
        while piece := raw.recv(65536):
            data += piece

    assert data.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert data.count(b"HTTP/1.1") == 1
    assert b"repositories" not in data


def test_requests_that_come_together_are_answered_in_order(registry: HakoRegistry) -> None:
    with registry.as_owner() as http:
        digest = http.push_blob(NAME, b"one after the other")
    wanted = head("GET", f"/v2/{NAME}/blobs/{digest}")
    location_of = head("POST", f"/v2/{NAME}/blobs/uploads/", "Content-Length: 0")
    last = head("GET", "/v2/", "Connection: close")
    with connect(registry) as raw:
        raw.sendall(wanted * 20 + location_of + wanted + last)
        data = b""
        while piece := raw.recv(65536):
            data += piece

    assert data.count(b"one after the other") == 21
    assert data.count(b"HTTP/1.1 200") == 22
    assert data.index(b"HTTP/1.1 202") > data.index(b"one after the other")


# The database


def test_reads_go_on_while_the_database_is_locked_and_writes_wait(
    registry: HakoRegistry, http: RegistryHttp
) -> None:
    tag = http.push_image("shop/locked/web", "1", b"layer")
    database = sqlite3.connect(registry.home / "registry/meta.db", isolation_level=None)
    locked, waits = time.monotonic(), []
    try:
        database.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as threads, registry.as_owner() as other:
            writing = threads.submit(other.push_blob, "shop/locked/web", os.urandom(100))
            while time.monotonic() - locked < 2:
                asked = time.monotonic()
                answer = http.send("GET", "/v2/shop/locked/web/manifests/1")
                assert digest_of(answer.body) == tag
                waits.append(time.monotonic() - asked)
                time.sleep(0.02)
            assert not writing.done()
            database.execute("ROLLBACK")
            assert writing.result(10)
    finally:
        database.close()

    assert max(waits) < 1


def test_a_write_that_waits_too_long_is_told_to_come_back(
    registry: HakoRegistry, http: RegistryHttp
) -> None:
    http.push_image("shop/locked/web", "1", b"layer")
    database = sqlite3.connect(registry.home / "registry/meta.db", isolation_level=None)
    begun = time.monotonic()
    try:
        database.execute("BEGIN IMMEDIATE")
        answer = http.send("POST", "/v2/shop/locked/web/blobs/uploads/")
        waited = time.monotonic() - begun
        database.execute("ROLLBACK")
    finally:
        database.close()

    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert int(answer.header("retry-after")) > 0
    assert 3 < waited < 15
    assert http.send("POST", "/v2/shop/locked/web/blobs/uploads/").status == 202


def test_a_database_that_ends_every_connection_is_connected_to_again() -> None:
    with running_cluster() as cluster:
        url = cluster.new_database()
        with (
            hako_registry(environment={"HAKO_REGISTRY_DATABASE": url}) as registry,
            registry.as_owner() as http,
        ):
            tag = http.push_image("shop/ended/web", "1", b"layer")
            for _ in range(3):
                subprocess.run(
                    ["psql", "-q", url, "-c", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"],
                    check=True, capture_output=True,
                )  # fmt: skip
                pulled = http.send("GET", "/v2/shop/ended/web/manifests/1")
                end = time.monotonic() + 10
                while True:
                    answer = http.send("POST", "/v2/shop/ended/web/blobs/uploads/")
                    if answer.status == 202:
                        break
                    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
                    assert time.monotonic() < end, registry.log.read_text()[-2000:]
                    time.sleep(0.05)
                assert (pulled.status, digest_of(pulled.body)) == (200, tag), pulled.body
            assert http.push_image("shop/ended/web", "2", b"another") != tag


# Sessions that end in several ways at once


def test_what_a_refused_upload_has_left_is_no_way_to_change_a_blob(
    registry: HakoRegistry, http: RegistryHttp
) -> None:
    """The file was linked to its place when the quota refused its row, and taken from there; the session goes on."""
    data = os.urandom(5000)
    digest = digest_of(data)
    location = begin(http, "shop/narrow/web")
    set_quota(registry, "shop/narrow", 100)
    refused = http.send("PUT", location, data, parameters=[("digest", digest)])
    assert not blob_file(registry, digest).exists()

    more = http.send("PATCH", location, b"of another kind")
    pushed = http.push_blob("shop/wide/web", data)

    assert (refused.status, refused.code) == (403, "DENIED")
    assert more.status == 202
    assert http.send("GET", location).header("range") == f"0-{len(data) + 14}"
    assert blob_file(registry, pushed).read_bytes() == data
    set_quota(registry, "shop/narrow", 1_000_000)
    whole = data + b"of another kind"
    closed = http.send("PUT", location, parameters=[("digest", digest_of(whole))])
    assert closed.status == 201
    assert http.send("GET", f"/v2/shop/narrow/web/blobs/{digest_of(whole)}").body == whole
    assert not {digest, digest_of(whole)} & set(verify(registry))


def set_quota(registry: HakoRegistry, repository: str, limit_bytes: int) -> None:
    project, name = repository.split("/")
    resource = f"projects/{project}/locations/local/repositories/{name}"
    with contextlib.closing(sqlite3.connect(registry.home / "registry/meta.db")) as database:
        with database:
            database.execute("INSERT OR REPLACE INTO quota VALUES (?, ?)", (resource, limit_bytes))


def test_an_upload_that_is_cancelled_while_it_arrives_ends_with_404(
    registry: HakoRegistry, http: RegistryHttp
) -> None:
    data = os.urandom(20_000)
    location = begin(http)
    with connect(registry) as raw:
        target = f"{location}?digest={digest_of(data)}"
        raw.sendall(head("PUT", target, f"Content-Length: {len(data)}") + data[:9000])
        time.sleep(0.3)

        cancelled = http.send("DELETE", location)
        raw.sendall(data[9000:])
        assert status_of(raw) == 404

    assert cancelled.status == 204
    assert not (registry.home / "registry/uploads" / location.rpartition("/")[2]).exists()


def test_whatever_is_done_to_uploads_at_once_no_request_fails_inside() -> None:
    """Few bytes and few sessions in many hands, the collector all the time."""
    with hako_registry(environment={"HAKO_REGISTRY_GRACE": "1"}) as registry:
        crowd = Crowd(registry)
        with ThreadPoolExecutor(8) as threads:
            for done in [threads.submit(crowd.act, number) for number in range(8)]:
                done.result()

        assert crowd.failed == []
        assert {201, 202, 204, 404, 409} <= crowd.statuses
        assert '"level": "ERROR"' not in registry.log.read_text()
        check_files(registry)
        assert verify(registry) == []


@dataclass
class Crowd:
    """Clients that begin, fill, close, cancel, delete and read, without regard for each other."""

    registry: HakoRegistry
    seconds: float = 6.0
    locations: dict[int, str] = field(default_factory=dict)
    statuses: set[int] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)

    def act(self, number: int) -> None:
        turn = random.Random(number)
        end = time.monotonic() + self.seconds
        with self.registry.as_owner() as http:
            while time.monotonic() < end and not self.failed:
                method, target, body, digest = self._choose(turn)
                parameters = [("digest", digest)] if digest else []
                answer = http.send(method, target, body, parameters=parameters)
                self.statuses.add(answer.status)
                if answer.status >= 500:
                    self.failed.append(f"{method} {target}: {answer.status} {answer.body!r}")
                if answer.status == 202 and method == "POST":
                    self.locations[turn.randrange(4)] = answer.header("location")

    def _choose(self, turn: random.Random) -> tuple[str, str, bytes | None, str]:
        name = f"shop/crowd{turn.randrange(2)}/web"
        data = turn.choice((b"", b"a", b"ab" * 30_000, b"abc" * 100_000))
        location = self.locations.get(turn.randrange(4))
        act = turn.choice(("begin", "whole", "patch", "put", "put", "close", "cancel", "delete"))
        if act == "begin" or (location is None and act in ("patch", "put", "close", "cancel")):
            return "POST", f"/v2/{name}/blobs/uploads/", None, ""
        assert location is not None or act in ("whole", "delete")
        match act:
            case "whole":
                return "POST", f"/v2/{name}/blobs/uploads/", data, digest_of(data)
            case "patch":
                return "PATCH", location or "", data, ""
            case "put":
                return "PUT", location or "", data, digest_of(data)
            case "close":
                return "PUT", location or "", None, digest_of(data)
            case "cancel":
                return "DELETE", location or "", None, ""
            case _:
                return "DELETE", f"/v2/{name}/blobs/{digest_of(data)}", None, ""


# The disk


@pytest.mark.needs_root
def test_a_full_disk_refuses_pushes_and_serves_pulls(tmp_path: Path) -> None:
    home = Path(f"/tmp/hk-full-{os.getpid()}")
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", home], check=True)
    try:
        with hako_registry(home=home) as registry, registry.as_owner() as http:
            kept = os.urandom(4 * MEBIBYTE)
            tag = http.push_image("shop/full/web", "1", kept)
            too_much = os.urandom(40 * MEBIBYTE)

            told = http.send("POST", "/v2/shop/full/web/blobs/uploads/", too_much, parameters=[("digest", digest_of(too_much))])  # fmt: skip
            location = begin(http, "shop/full/web")
            pieces = [too_much[at : at + MEBIBYTE] for at in range(0, len(too_much), MEBIBYTE)]
            untold = _streamed(http, location, pieces)
            pulled = http.send("GET", f"/v2/shop/full/web/blobs/{digest_of(kept)}")
            manifest = http.send("GET", "/v2/shop/full/web/manifests/1")
            cancelled = http.send("DELETE", location).status
            again = http.push_image("shop/full/web", "2", os.urandom(MEBIBYTE))
            with sqlite3.connect(home / "registry/meta.db") as database:
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            database.close()
            assert digest_of(http.send("GET", "/v2/shop/full/web/manifests/2").body) == again
    finally:
        subprocess.run(["umount", "-l", home], check=True)
        home.rmdir()

    assert (told.status, told.code) == (507, "INSUFFICIENT_STORAGE")
    assert untold in (507, 0)
    assert pulled.body == kept
    assert digest_of(manifest.body) == tag
    assert cancelled in (204, 404)


def _streamed(http: RegistryHttp, location: str, pieces: list[bytes]) -> int:
    """The status of a stream that is broken off; 0 if the connection was closed before it could be read."""
    try:
        return http.send("PATCH", location, pieces).status
    except (BrokenPipeError, ConnectionResetError):
        return 0


# Large things


def test_a_manifest_of_ten_thousand_layers_and_one_of_four_mebibytes_are_taken(
    http: RegistryHttp,
) -> None:
    name = "shop/large/web"
    layer = http.push_blob(name, b"again and again")
    http.push_blob(name, b"{}")
    many = image_manifest([(layer, 15)] * 10_000)
    large = image_manifest([(layer, 15)], annotations={"x": "y" * (4 * MEBIBYTE - 1000)})

    for body in (many, large):
        begun = time.monotonic()
        assert http.push_manifest(name, digest_of(body), body).status == 201
        assert http.send("GET", f"/v2/{name}/manifests/{digest_of(body)}").body == body
        assert time.monotonic() - begun < 10
    too_large = image_manifest([(layer, 15)], annotations={"x": "y" * (9 * MEBIBYTE)})
    refused = http.push_manifest(name, "1", too_large)
    assert refused.status == 413


def test_thousands_of_tags_are_listed_in_pages(http: RegistryHttp) -> None:
    name = "shop/tags/web"
    http.push_blob(name, b"{}")
    body = image_manifest([])
    every = sorted(f"v{number}" for number in range(3000))
    for at in range(0, 3000, 60):
        answer = http.send(
            "PUT", f"/v2/{name}/manifests/{digest_of(body)}", body,
            parameters=[("tag", tag) for tag in every[at : at + 60]],
            Content_Type="application/vnd.oci.image.manifest.v1+json",
        )  # fmt: skip
        assert answer.status == 201, answer.body

    found: list[str] = []
    where = f"/v2/{name}/tags/list?n=700"
    while where:
        answer = http.send("GET", where)
        found += answer.document["tags"]
        where = answer.header("link").partition(">")[0].removeprefix("<")
    assert found == every


@pytest.mark.parametrize("length", [255, 256])
def test_names_have_a_limit(length: int, http: RegistryHttp) -> None:
    name = "shop/long/" + "a" * (length - 10)

    answer = http.send("POST", f"/v2/{name}/blobs/uploads/")

    assert (answer.status, answer.code) == ((202, "") if length == 255 else (400, "NAME_INVALID"))
