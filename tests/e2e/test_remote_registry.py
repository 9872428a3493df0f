"""Remote and virtual repositories through the whole registry: workers, the protocol, real upstreams, clients that go away."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from hakobune.iam.master_key import load_master_key, master_key_path
from hakobune.iam.secret_box import SecretBox
from hakobune.registry.generation import Generation
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Mode, RemoteConfig, Repository, UpstreamPolicy
from hakobune.registry.upstream_password import seal_password
from hakobune.state.sql import open_sql
from tests.hostile_registry import (
    Handler,
    HostileRegistry,
    cut_after,
    hostile_registry,
    send,
    status,
)
from tests.real_registry import make_tls
from tests.real_registry import registry as real_registry
from tests.registry_client import RegistryHttp
from tests.registry_server import HakoRegistry, hako_registry
from tests.remote_world import put_image
from tests.seaweed import seaweed


@pytest.fixture(scope="module")
def server() -> Iterator[HakoRegistry]:
    with hako_registry() as registry:
        assert registry.owner_token  # made by the first who asks
        yield registry


@pytest.fixture
def upstream() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        yield registry


_numbers = iter(range(10_000))


def add(server: HakoRegistry, *, name: str = "", **fields: object) -> Repository:
    """A new repository, made as the API does it."""
    name = name or f"r{next(_numbers)}"

    async def create() -> Repository:
        sql = await open_sql(f"sqlite:///{server.home}/registry/meta.db")
        generation = Generation(server.home / "registry/generation")
        try:
            metadata = Metadata(sql, generation)
            return await metadata.create_repository(
                Repository(project="demo", location="local", name=name, **fields),  # type: ignore[arg-type]
                "owner",
            )
        finally:
            await sql.close()
            generation.close()

    return asyncio.run(create())


def add_remote(
    server: HakoRegistry,
    host: str,
    *,
    name: str = "",
    sealed: Callable[[str], str] = lambda resource: "",
    **config: object,
) -> Repository:
    """A remote repository; *sealed* gives its upstream's password for the repository's full name."""
    name = name or f"r{next(_numbers)}"
    password = sealed(f"projects/demo/locations/local/repositories/{name}")
    remote = RemoteConfig(upstream=f"http://{host}", password=password, **config)  # type: ignore[arg-type]
    return add(server, name=name, mode=Mode.REMOTE, remote=remote)


def read_whole(server: HakoRegistry, path: str) -> tuple[int, str, float]:
    """Status, sha256 of the body, and seconds until its first byte; over a connection of its own."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {server.owner_token}"})
        response = connection.getresponse()
        found = sha256(response.read1(1 << 16))
        first = time.monotonic() - began
        while data := response.read1(1 << 20):
            found.update(data)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return response.status, f"sha256:{found.hexdigest()}", first
    finally:
        connection.close()


def test_eight_cold_readers_over_all_workers_are_one_upstream_transfer(
    server: HakoRegistry, upstream: HostileRegistry
):
    digest = upstream.put_blob(os.urandom(24 << 20))
    path = f"/v2/{add_remote(server, upstream.host).path}/web/blobs/{digest}"

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: read_whole(server, path), range(8)))

    assert [(status, found) for status, found, _ in answers] == [(200, digest)] * 8
    assert len(upstream.requests("GET", digest)) == 1
    assert read_whole(server, path)[:2] == (200, digest)
    assert len(upstream.requests("GET", digest)) == 1


def test_a_range_is_answered_while_the_blob_arrives(
    server: HakoRegistry, upstream: HostileRegistry
):
    data = os.urandom(1 << 20)
    digest = upstream.put_blob(data)
    path = f"/v2/{add_remote(server, upstream.host).path}/web/blobs/{digest}"

    with server.over_tcp() as client:
        answer = client.send("GET", path, Range="bytes=500000-")

    assert answer.status == 206
    assert answer.body == data[500000:]


def test_the_first_bytes_come_at_once_from_a_slow_upstream(
    server: HakoRegistry, upstream: HostileRegistry
):
    data = os.urandom(400_000)
    digest = upstream.put_blob(data)

    def slow(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for at in range(0, len(data), 100_000):
            handler.wfile.write(data[at : at + 100_000])
            handler.wfile.flush()
            time.sleep(0.5)
        return True

    upstream.fail("GET", "/blobs/", slow)
    path = f"/v2/{add_remote(server, upstream.host).path}/web/blobs/{digest}"

    status, found, first = read_whole(server, path)

    assert (status, found) == (200, digest)
    assert first < 0.4


def test_wrong_bytes_end_the_connection_before_the_body_is_complete(
    server: HakoRegistry, upstream: HostileRegistry
):
    data = os.urandom(400_000)
    digest = upstream.put_blob(data)
    upstream.fail("GET", "/blobs/", send(lambda data: data[:-1] + b"!"), times=1)
    path = f"/v2/{add_remote(server, upstream.host).path}/web/blobs/{digest}"

    try:
        status, _, _ = read_whole(server, path)
    except (http.client.IncompleteRead, ConnectionResetError):
        status = 0

    assert status in (0, 502)  # 502 if all of it came before the first byte was sent
    assert read_whole(server, path)[:2] == (200, digest)


def test_an_upstream_that_cuts_is_not_noticed_by_the_client(
    server: HakoRegistry, upstream: HostileRegistry
):
    digest = upstream.put_blob(os.urandom(1 << 20))
    upstream.fail("GET", "/blobs/", cut_after(300_000), times=2)
    path = f"/v2/{add_remote(server, upstream.host).path}/web/blobs/{digest}"

    assert read_whole(server, path)[:2] == (200, digest)


def test_a_killed_worker_leaves_its_fetch_to_the_others(upstream: HostileRegistry):
    data = os.urandom(4 << 20)
    digest = upstream.put_blob(data)
    go_on = threading.Event()

    def slow(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: 1 << 20])
        handler.wfile.flush()
        go_on.wait(30)
        handler.wfile.write(data[1 << 20 :])
        return True

    upstream.fail("GET", "/blobs/", slow, times=1)
    with hako_registry() as server:
        assert server.owner_token
        path = f"/v2/{add_remote(server, upstream.host).path}/web/blobs/{digest}"
        with ThreadPoolExecutor(8) as threads:
            readers = [threads.submit(read_whole, server, path) for _ in range(8)]
            while not upstream.requests("GET", "/blobs/"):
                time.sleep(0.02)
            time.sleep(0.5)
            fetching = [pid for pid in server.children() if _speaks_to(pid, upstream.host)]
            assert len(fetching) == 1
            os.kill(fetching[0], signal.SIGKILL)
            done = [reader for reader in readers if _outcome(reader) == (200, digest)]
            go_on.set()
        # Those whose own worker was killed have lost their connection; the others noticed nothing.
        assert all(_outcome(r) in ((200, digest), None) for r in readers)
        if done:
            assert upstream.requests("GET", "/blobs/")[1].headers["range"].startswith("bytes=")
        assert read_whole(server, path)[:2] == (200, digest)


def test_whatever_dies_or_lies_no_complete_body_is_wrong_and_all_is_there_in_the_end(
    upstream: HostileRegistry,
):
    chance = random.Random(5)
    digests = [upstream.put_blob(os.urandom(chance.randrange(1, 3 << 20))) for _ in range(12)]
    faults = (cut_after(0), cut_after(100_000), send(lambda data: data[:-1] + b"?"), status(503))
    for _ in range(60):
        upstream.fail("GET", chance.choice(digests), chance.choice(faults), times=1)
    end = time.monotonic() + 8
    wrong: list[str] = []
    complete = 0
    with hako_registry() as server:
        assert server.owner_token
        name = add_remote(server, upstream.host).path

        def client(seed: int) -> int:
            choice, done = random.Random(seed), 0
            while time.monotonic() < end:
                digest = choice.choice(digests)
                try:
                    code, found, _ = read_whole(server, f"/v2/{name}/web/blobs/{digest}")
                except (OSError, http.client.HTTPException):
                    continue
                done += code == 200
                if code == 200 and found != digest:
                    wrong.append(digest)
            return done

        with ThreadPoolExecutor(6) as threads:
            clients = [threads.submit(client, seed) for seed in range(6)]
            while time.monotonic() < end - 1:
                time.sleep(0.7)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(server.children()), signal.SIGKILL)
            complete = sum(c.result(60) for c in clients)

        assert wrong == []
        assert complete > 12
        upstream.rules.clear()
        for digest in digests:
            assert read_whole(server, f"/v2/{name}/web/blobs/{digest}")[:2] == (200, digest)


def test_a_rotten_blob_is_found_and_fetched_again(server: HakoRegistry, upstream: HostileRegistry):
    digest = put_image(upstream, os.urandom(300_000))
    repository = add_remote(server, upstream.host)
    with server.over_tcp() as client:
        _pull(client, repository, upstream, digest)
        layer = json.loads(upstream.manifests[digest][1])["layers"][0]["digest"]
        digits = layer.partition(":")[2]
        path = server.home / "registry/blobs/sha256" / digits[:2] / digits
        end = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        good = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))

        done = subprocess.run(
            [sys.executable, "-I", "-m", "hakobune.registry.maintain", "verify"],
            env={"PATH": os.environ["PATH"], "HAKO_HOME": str(server.home)},
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert '"repaired":true' in done.stdout.replace(" ", ""), done.stdout + done.stderr
        assert client.send("GET", f"/v2/{repository.path}/team/web/blobs/{layer}").body == good


def test_blobs_in_s3_are_fetched_once_and_served_from_there_afterwards(upstream: HostileRegistry):
    data = os.urandom(6 << 20)
    digest = upstream.put_blob(data)
    with (
        tempfile.TemporaryDirectory(prefix="hk-", dir="/var/tmp") as folder,
        seaweed(Path(folder)) as weed,
    ):
        environment = {**weed.environment, "HAKO_REGISTRY_STORAGE": weed.url("remote")}
        with hako_registry(environment=environment) as server:
            assert server.owner_token
            path = f"/v2/{add_remote(server, upstream.host).path}/web/blobs/{digest}"
            with ThreadPoolExecutor(4) as threads:
                answers = list(threads.map(lambda _: read_whole(server, path), range(4)))
            assert [answer[:2] for answer in answers] == [(200, digest)] * 4
            end = time.monotonic() + 20
            while list((server.home / "registry/partial").iterdir()):
                assert time.monotonic() < end
                time.sleep(0.1)
            upstream.blobs.clear()
            with server.over_tcp() as client:
                assert client.send("GET", path, Range="bytes=5000000-").body == data[5000000:]


def test_what_arrives_is_sent_through_tls_too(upstream: HostileRegistry, tmp_path: Path):
    data = os.urandom(3 << 20)
    digest = upstream.put_blob(data)
    upstream.fail("GET", "/blobs/", cut_after(1 << 20), times=1)
    tls = make_tls(tmp_path)
    arguments = ("--tls-cert", str(tls.certificate), "--tls-key", str(tls.key))
    with hako_registry(arguments=arguments) as server:
        path = f"/v2/{add_remote(server, upstream.host).path}/web/blobs/{digest}"
        with RegistryHttp(
            f"https://{server.host}",
            authorization=f"Bearer {server.owner_token}",
            authority=tls.authority,
        ) as client:
            answer = client.send("GET", path)
    assert (answer.status, answer.body == data) == (200, True)
    ranges = [seen.headers.get("range") for seen in upstream.requests("GET", digest)]
    assert ranges == [None, f"bytes={1 << 20}-"]


def _outcome(reader: object) -> tuple[int, str] | None:
    try:
        return reader.result(60)[:2]  # type: ignore[attr-defined]
    except (OSError, http.client.HTTPException):
        return None


def _speaks_to(pid: int, host: str) -> bool:
    """Whether a process has a connection to that address on loopback."""
    port = int(host.rpartition(":")[2])
    inodes = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].partition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(descriptor) in inodes:
                return True
        except OSError:
            continue
    return False


def test_a_client_that_goes_away_early_ends_the_fetch_and_one_that_goes_late_does_not(
    server: HakoRegistry, upstream: HostileRegistry
):
    data = os.urandom(8 << 20)
    digest = upstream.put_blob(data)
    sent: list[int] = []

    def slow(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for at in range(0, len(data), 64 << 10):
            handler.wfile.write(data[at : at + (64 << 10)])
            handler.wfile.flush()
            sent.append(at)
            time.sleep(0.4 if at < len(data) // 10 else 0)
        return True

    upstream.fail("GET", "/blobs/", slow, times=1)
    path = f"/v2/{add_remote(server, upstream.host).path}/web/blobs/{digest}"
    _ask_and_leave(server, path)
    end = time.monotonic() + 10
    while list((server.home / "registry/partial").glob("*.state")):
        assert time.monotonic() < end
        time.sleep(0.05)

    assert sent[-1] < len(data) // 10
    assert read_whole(server, path)[:2] == (200, digest)


def _ask_and_leave(server: HakoRegistry, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        request = (
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.owner_token}\r\n\r\n"
        )
        client.sendall(request.encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_what_is_stale_says_so_and_what_is_fresh_is_answered_from_memory(
    server: HakoRegistry, upstream: HostileRegistry
):
    digest = put_image(upstream, b"layer")
    repository = add_remote(server, upstream.host, tag_ttl_s=0)
    path = f"/v2/{repository.path}/web/manifests/latest"
    with server.over_tcp() as client:
        first = client.send("GET", path)
        assert (first.status, first.header("docker-content-digest")) == (200, digest)
        upstream.fail("HEAD", "/manifests/", send(lambda data: b""))
        upstream.fail("HEAD", "/manifests/", lambda handler: handler.reply(503) is None, first=True)

        stale = client.send("GET", path)

        assert stale.body == first.body
        assert stale.header("warning").startswith('299 - "stale: served from the cache')
        assert client.send("HEAD", path).header("warning") == stale.header("warning")


def test_remote_and_virtual_repositories_take_no_pushes(
    server: HakoRegistry, upstream: HostileRegistry
):
    remote = add_remote(server, upstream.host)
    policy = UpstreamPolicy(id="a", repository=remote.resource, priority=1)
    virtual = add(server, mode=Mode.VIRTUAL, upstream_policies=(policy,))
    with server.over_tcp() as client:
        for repository in (remote, virtual):
            answers = (
                client.send("POST", f"/v2/{repository.path}/web/blobs/uploads/"),
                client.send("PUT", f"/v2/{repository.path}/web/manifests/v1", body=b"{}"),
            )
            assert [(a.status, a.code) for a in answers] == [(405, "UNSUPPORTED")] * 2
        deleted = client.send("DELETE", f"/v2/{virtual.path}/web/manifests/v1")
        assert (deleted.status, deleted.code) == (405, "UNSUPPORTED")


def test_a_real_registry_is_pulled_through_and_then_not_needed(
    server: HakoRegistry, tmp_path: Path
):
    image = HostileRegistry()
    digest = put_image(image, os.urandom(300_000), b"small")
    with real_registry(tmp_path / "real") as host:
        _push(host, "team/web", image, digest, "latest")
        repository = add_remote(server, host)
        with server.over_tcp() as client:
            listed = client.send("GET", f"/v2/{repository.path}/team/web/tags/list")
            assert listed.document == {"name": f"{repository.path}/team/web", "tags": ["latest"]}
            assert _pull(client, repository, image, digest) == digest
            nothing = client.send("GET", f"/v2/{repository.path}/team/web/referrers/{digest}")
            assert nothing.document["manifests"] == []
    with server.over_tcp() as client:
        assert _pull(client, repository, image, digest) == digest


def test_a_chain_of_two_of_our_own_is_pulled_through_with_a_sealed_password(
    server: HakoRegistry, upstream: HostileRegistry
):
    """distribution#4747: the second cache asks the first by HEAD for what neither has."""
    digest = put_image(upstream, os.urandom(300_000))
    far = add_remote(server, upstream.host)
    with hako_registry() as near_server:
        assert near_server.owner_token
        box = SecretBox(load_master_key(master_key_path(near_server.home)))
        near = add_remote(
            near_server,
            f"{server.host}/{far.path}",
            username="oauth2accesstoken",
            sealed=lambda resource: seal_password(box, resource, server.owner_token),
        )
        stranger = add_remote(near_server, f"{server.host}/{far.path}")
        with near_server.over_tcp() as client:
            assert _pull(client, near, upstream, digest) == digest
            refused = client.send("GET", f"/v2/{stranger.path}/team/web/manifests/latest")
            assert refused.status == 404
        assert server.owner_token not in (
            near_server.home / "registry/meta.db"
        ).read_bytes().decode("latin-1")
    assert len(upstream.requests("GET", "/manifests/")) == 1


def test_a_mirrors_host_name_and_a_namespace_stand_for_a_repository(upstream: HostileRegistry):
    """zot#2985: docker's `registry-mirrors` have no path; zot#4187, distribution#3864: `?ns=`."""
    digest = put_image(upstream, b"layer")
    mirrors = "hub.test=demo/hub docker.io=demo/hub"
    with hako_registry(environment={"HAKO_REGISTRY_MIRRORS": mirrors}) as server:
        add_remote(server, upstream.host, name="hub")
        path = "/v2/library/nginx/manifests/latest"
        with server.over_tcp() as client:
            for answer in (
                client.send("GET", path, Host="hub.test"),
                client.send("GET", path, Host="hub.test:8080"),
                client.send("GET", f"{path}?ns=docker.io"),
                client.send("GET", "/v2/demo/hub/library/nginx/manifests/latest?ns=docker.io"),
            ):
                assert (answer.status, answer.header("docker-content-digest")) == (200, digest)
            assert client.send("GET", f"{path}?ns=docker.io").header("oci-namespace") == "docker.io"
            assert client.send("GET", path).status == 404
            assert client.send("GET", f"{path}?ns=quay.io").status == 404
        with server.anonymous() as stranger:
            asked = stranger.send("GET", path, Host="hub.test").header("www-authenticate")
            assert 'scope="repository:demo/hub/library/nginx:pull"' in asked
        with server.over_tcp() as client:
            scope = ("scope", "repository:library/nginx:pull")  # docker asks in its own words
            token = client.send("GET", "/token", parameters=[scope], Host="hub.test").document
        with RegistryHttp(server.url, authorization=f"Bearer {token['token']}") as docker:
            assert docker.send("GET", path, Host="hub.test").status == 200
            assert docker.send("GET", path).status != 200
    assert len(upstream.requests("GET", "^/v2/library/nginx/manifests/")) == 1


def test_a_mirror_that_names_no_repository_is_told_of_at_the_start(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-I", "-m", "hakobune.registry.server"],
        env={
            "PATH": os.environ["PATH"],
            "HAKO_HOME": str(tmp_path),
            "HAKO_REGISTRY_MIRRORS": "hub.test",
        },
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode != 0
    assert "'hub.test' in HAKO_REGISTRY_MIRRORS is no mirror" in done.stderr + done.stdout


def test_the_limits_that_upstreams_tell_are_metrics_whichever_worker_heard_of_them(
    server: HakoRegistry, upstream: HostileRegistry
):
    put_image(upstream, b"layer")

    def limited(handler: Handler) -> bool:
        media_type, body = handler.registry.manifests["latest"]
        headers = {"ratelimit_limit": "100;w=21600", "ratelimit_remaining": "76;w=21600"}
        handler.reply(200, body, Content_Type=media_type, **headers)
        return True

    upstream.fail("GET", "/manifests/latest", limited)
    repository = add_remote(server, upstream.host)
    with server.over_tcp() as client:
        assert client.send("GET", f"/v2/{repository.path}/web/manifests/latest").status == 200
        wanted = f'hako_registry_upstream_ratelimit_remaining{{upstream="{upstream.host}"}} 76'
        end = time.monotonic() + 10
        while wanted not in client.send("GET", "/metrics").body.decode():
            assert time.monotonic() < end
            time.sleep(0.1)


def _push(host: str, name: str, image: HostileRegistry, digest: str, tag: str) -> None:
    client = RegistryHttp(f"http://{host}")
    with client:
        for blob, data in image.blobs.items():
            location = client.send("POST", f"/v2/{name}/blobs/uploads/").header("location")
            mark = "&" if "?" in location else "?"
            path = location.removeprefix(f"http://{host}")
            assert client.send("PUT", f"{path}{mark}digest={blob}", body=data).status == 201
        media_type, body = image.manifests[digest]
        answer = client.send("PUT", f"/v2/{name}/manifests/{tag}", body, Content_Type=media_type)
        assert answer.status == 201


def _pull(client: RegistryHttp, repository: Repository, image: HostileRegistry, digest: str) -> str:
    answer = client.send("GET", f"/v2/{repository.path}/team/web/manifests/latest")
    assert answer.status == 200
    document = json.loads(answer.body)
    for blob in (document["config"], *document["layers"]):
        path = f"/v2/{repository.path}/team/web/blobs/{blob['digest']}"
        assert client.send("HEAD", path).header("content-length") == str(blob["size"])
        assert client.send("GET", path).body == image.blobs[blob["digest"]]
    return answer.header("docker-content-digest")
