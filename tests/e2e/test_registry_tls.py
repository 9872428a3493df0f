"""The registry's own port with TLS."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry_server import HakoRegistry, hako_registry

NAME = "shop/apps/web"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hk-", dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def registry(folder: Path) -> Iterator[HakoRegistry]:
    make_certificate(folder, "first")
    arguments = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
    with hako_registry(arguments=arguments) as running:
        yield running


def make_certificate(folder: Path, organization: str) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-days", "2",
         "-subj", f"/O={organization}/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip


@contextlib.contextmanager
def connected(registry: HakoRegistry, folder: Path) -> Iterator[http.client.HTTPSConnection]:
    context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    with contextlib.closing(
        http.client.HTTPSConnection("127.0.0.1", registry.port, timeout=30, context=context)
    ) as connection:
        yield connection


def ask(
    registry: HakoRegistry,
    connection: http.client.HTTPSConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    **headers: str,
) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request(
        method, path, body, {"Authorization": f"Bearer {registry.owner_token}", **headers}
    )
    answer = connection.getresponse()
    return answer, answer.read()


def test_blobs_go_in_and_out_encrypted(registry: HakoRegistry, folder: Path) -> None:
    data = os.urandom(5_000_000)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"

    with connected(registry, folder) as connection:
        path = f"/v2/{NAME}/blobs"
        answer, _ = ask(registry, connection, "POST", f"{path}/uploads/?digest={digest}", data)
        assert answer.status == 201
        for _ in range(2):
            answer, body = ask(registry, connection, "GET", f"{path}/{digest}")
            assert (answer.status, body) == (200, data)
        answer, body = ask(registry, connection, "GET", f"{path}/{digest}", Range="bytes=-1000")
        assert (answer.status, body) == (206, data[-1000:])
        answer, body = ask(registry, connection, "HEAD", f"{path}/{digest}")
        assert (answer.headers["Content-Length"], body) == ("5000000", b"")


def test_the_token_endpoint_is_where_the_client_is(registry: HakoRegistry, folder: Path) -> None:
    with connected(registry, folder) as connection:
        connection.request("GET", "/v2/")
        answer = connection.getresponse()
        answer.read()

    realm = f'realm="https://127.0.0.1:{registry.port}/v2/token"'
    assert realm in answer.headers["WWW-Authenticate"]


def test_who_speaks_plain_http_is_let_go_at_once(registry: HakoRegistry) -> None:
    with socket.create_connection(("127.0.0.1", registry.port), timeout=5) as plain:
        plain.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := plain.recv(1000):
                data += piece

    assert not data.startswith(b"HTTP/1.1 200")


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(
    registry: HakoRegistry, folder: Path
) -> None:
    with connected(registry, folder) as connection:
        connection.putrequest("POST", f"/v2/{NAME}/blobs/uploads/?digest=sha256:{'0' * 64}")
        connection.putheader("Authorization", f"Bearer {registry.owner_token}")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders(b"only this")

    with connected(registry, folder) as connection:
        assert ask(registry, connection, "GET", "/healthz")[0].status == 200


def test_a_new_certificate_is_taken_without_a_restart(registry: HakoRegistry, folder: Path) -> None:
    make_certificate(folder, "second")
    assert registry.process is not None
    os.kill(registry.process.pid, signal.SIGHUP)

    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(ssl.SSLCertVerificationError):
            with connected(registry, folder) as connection:
                answer, _ = ask(registry, connection, "GET", "/healthz")
                assert answer.status == 200
            return
        time.sleep(0.05)
    raise AssertionError("the first certificate is still shown")
