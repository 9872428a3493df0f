"""A server on a unix socket stands for the registry: what is asked of it, and what is done with its answers."""

from __future__ import annotations

import http.server
import os
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hakobune.distribution.access import Access
from hakobune.distribution.client import RegistryClient
from hakobune.distribution.credentials import CredentialFiles
from hakobune.distribution.own_registry import (
    OwnRegistry,
    is_location_host,
    path_of_blob,
    push_by_link,
)
from hakobune.distribution.proxies import Proxies
from hakobune.distribution.registries import Registries
from hakobune.distribution.session import Session
from hakobune.oci.digest import Digest
from hakobune.oci.reference import Reference

DIGEST = Digest.of(b"bytes")


@dataclass(slots=True)
class Registry:
    """Answers every request with `status` and `headers`, and keeps what was asked."""

    folder: Path
    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    linked: list[bytes] = field(default_factory=list)

    @property
    def own(self) -> OwnRegistry:
        return OwnRegistry(
            hosts=frozenset({"localhost:8080"}),
            socket=self.folder / "s",
            api=self.folder / "api",
            incoming=self.folder / "incoming",
        )

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{request.headers['Host']} {request.command} {request.path}")
        if name := request.headers.get("Hako-Link"):
            self.linked.append((self.folder / "incoming" / name).read_bytes())
        request.send_response(self.status)
        for name, value in {"Content-Length": "0", **self.headers}.items():
            request.send_header(name, value)
        request.end_headers()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with tempfile.TemporaryDirectory(prefix="hk-", dir="/tmp") as folder:
        registry = Registry(Path(folder))
        (registry.folder / "incoming").mkdir()
        (registry.folder / "blob").write_bytes(b"bytes")

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                registry.answer(self)

            do_HEAD = do_GET = do_POST = handle_any

            def log_message(self, format: str, *args: object) -> None:
                pass

            def address_string(self) -> str:
                return "unix"

        with socketserver.ThreadingUnixStreamServer(str(registry.own.socket), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield registry
            server.shutdown()
            thread.join()


@pytest.fixture
def client(registry: Registry) -> Iterator[RegistryClient]:
    access = Access(
        registries=Registries(own=registry.own),
        credentials=CredentialFiles((), ()),
        proxies=Proxies.read({"http_proxy": "http://proxy.test:3128"}),
    )
    reference = Reference.parse("localhost:8080/p/r/i")
    endpoint = access.registries.endpoints(reference, pull=False)[0]
    with Session(access, note=print) as session:
        yield RegistryClient(session, endpoint, what="cannot push")


def left(registry: Registry) -> list[str]:
    return os.listdir(registry.folder / "incoming")


def test_a_blob_is_pushed_by_a_link_that_is_gone_afterwards(
    registry: Registry, client: RegistryClient
) -> None:
    taken = push_by_link(client, DIGEST, registry.folder / "blob", registry.own.incoming)

    assert taken
    assert registry.asked == [f"localhost:8080 POST /v2/p/r/i/blobs/uploads/?digest={DIGEST}"]
    assert registry.linked == [b"bytes"]
    assert left(registry) == []


def test_a_registry_that_begins_an_ordinary_upload_instead_has_not_taken_the_blob(
    registry: Registry, client: RegistryClient
) -> None:
    registry.status = 202

    assert not push_by_link(client, DIGEST, registry.folder / "blob", registry.own.incoming)
    assert left(registry) == []


def test_what_cannot_be_linked_is_not_asked_for(registry: Registry, client: RegistryClient) -> None:
    assert not push_by_link(client, DIGEST, registry.folder / "gone", registry.own.incoming)
    assert registry.asked == []


def test_the_registry_says_where_a_blob_lies(registry: Registry, client: RegistryClient) -> None:
    registry.status, registry.headers = 200, {"Hako-Blob-Path": "/r/blobs/aa"}
    assert path_of_blob(client, DIGEST) == Path("/r/blobs/aa")

    registry.headers = {}
    assert path_of_blob(client, DIGEST) is None

    registry.status = 404
    assert path_of_blob(client, DIGEST) is None


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("europe-west1-docker.pkg.dev", True),
        ("local-docker.pkg.dev", True),
        ("docker.pkg.dev", False),
        ("x-docker.pkg.dev.evil.test", False),
        ("x-docker.pkg.dev:443", False),
    ],
)
def test_names_of_artifact_registry_are_known(host: str, is_one: bool) -> None:
    assert is_location_host(host) == is_one
