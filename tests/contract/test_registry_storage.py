"""What holds for every place in which the registry keeps blobs: a folder, and S3 (a real SeaweedFS)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import shutil
import socket
import socketserver
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hakobune.errors import UsageError
from hakobune.registry.blobs import LocalStorage, Storage
from hakobune.registry.s3 import S3Storage, open_s3
from hakobune.registry.s3_address import S3Address
from hakobune.registry.s3_client import S3Client, S3Error
from hakobune.registry.sigv4 import S3Credentials
from tests.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, seaweed

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="hk-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def weed(folder: Path) -> Iterator[Seaweed]:
    with seaweed(folder / "weed") as running:
        yield running


@pytest.fixture
def s3(weed: Seaweed, request: pytest.FixtureRequest) -> Iterator[S3Storage]:
    """With parts of 5 MiB, the least that S3 takes."""
    prefix = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    client = S3Client(S3Address.parse(weed.url(prefix)), S3Credentials(ACCESS_KEY, SECRET_KEY))
    storage = S3Storage(client, redirect=True, part_size=5 * MEBIBYTE)
    yield storage
    storage.close()


@pytest.fixture(params=["folder", "S3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "S3":
        chosen: S3Storage = request.getfixturevalue("s3")
        return chosen
    local = LocalStorage(tmp_path / "registry")
    local.prepare()
    return local


def staged(tmp_path: Path, data: bytes, algorithm: str = "sha256") -> tuple[Path, str]:
    path = tmp_path / f"staged-{os.urandom(4).hex()}"
    path.write_bytes(data)
    return path, f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def everything(storage: Storage, key: str, size: int) -> bytes:
    return b"".join(storage.read(key, 0, size))


@contextlib.contextmanager
def losing_connections(endpoint: str, word: bytes) -> Iterator[str]:
    """Before *endpoint*, a forwarder that drops every connection on which *word* comes; its URL."""
    target = (urlsplit(endpoint).hostname, urlsplit(endpoint).port)

    class Forwarder(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(target) as server:
                sides = {self.request: server, server: self.request}
                while True:
                    for side in select.select(list(sides), [], [])[0]:
                        data = side.recv(1 << 16)
                        if not data or word in data:
                            return
                        sides[side].sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forwarder) as forwarder:
        thread = threading.Thread(target=forwarder.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{forwarder.server_address[1]}"
        forwarder.shutdown()
        thread.join()


@pytest.mark.parametrize("size", [0, 1, 5 * MEBIBYTE, 5 * MEBIBYTE + 1, 12 * MEBIBYTE + 3])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_what_is_put_is_read(storage: Storage, tmp_path: Path, size: int, algorithm: str) -> None:
    data = os.urandom(size)
    path, digest = staged(tmp_path, data, algorithm)

    key = storage.put(path, digest)

    assert everything(storage, key, size) == data
    found = storage.stat(key)
    assert found is not None
    assert found.size == size
    assert abs(found.modified_at / 1e6 - path.stat().st_mtime) < 60
    assert storage.is_there(key)
    assert path.read_bytes() == data


def test_a_piece_is_read(storage: Storage, tmp_path: Path) -> None:
    data = os.urandom(700_000)
    key = storage.put(*staged(tmp_path, data))

    assert b"".join(storage.read(key, 300_000, 600_001)) == data[300_000:600_001]
    assert b"".join(storage.read(key, 5, 5)) == b""


def test_what_is_not_there_is_said_to_be(storage: Storage, tmp_path: Path) -> None:
    digits = "ab" * 32

    assert storage.stat(f"sha256/ab/{digits}") is None
    with pytest.raises(FileNotFoundError):
        everything(storage, f"sha256/ab/{digits}", 10)
    storage.delete(f"sha256/ab/{digits}")
    storage.retire(f"sha256/ab/{digits}")


def test_what_is_put_twice_is_there_until_both_are_gone_or_the_second_is_the_first(
    storage: Storage, tmp_path: Path
) -> None:
    path, digest = staged(tmp_path, b"the same")

    first, second = storage.put(path, digest), storage.put(path, digest)
    if first != second:
        storage.retire(first)
        storage.delete(first)

    assert everything(storage, second, 8) == b"the same"


def test_what_is_retired_and_deleted_is_gone(storage: Storage, tmp_path: Path) -> None:
    key = storage.put(*staged(tmp_path, b"to go"))

    for _ in range(2):
        storage.retire(key)
        storage.delete(key)

    assert storage.stat(key) is None
    assert list(storage.list()) == []


def test_what_is_quarantined_is_kept_elsewhere(storage: Storage, tmp_path: Path) -> None:
    key = storage.put(*staged(tmp_path, b"rotten"))

    place = storage.quarantine(key)

    assert "quarantine/" in place
    assert storage.stat(key) is None
    assert list(storage.list()) == []
    assert storage.quarantine(key) == place


def test_everything_is_listed(storage: Storage, tmp_path: Path) -> None:
    keys = {
        storage.put(*staged(tmp_path, os.urandom(number + 1), algorithm)): number + 1
        for number, algorithm in enumerate(["sha256"] * 5 + ["sha512"] * 2)
    }

    assert {found.key: found.size for found in storage.list()} == keys


def test_what_is_vanishing_is_read_to_its_end_from_a_folder(tmp_path: Path) -> None:
    local = LocalStorage(tmp_path / "registry")
    local.prepare()
    data = os.urandom(3 * MEBIBYTE)
    key = local.put(*staged(tmp_path, data))

    pieces = local.read(key, 0, len(data))
    begun = next(pieces)
    local.retire(key)
    local.empty_trash()

    assert begun + b"".join(pieces) == data


# S3 alone


def test_a_presigned_url_lets_anybody_read_the_blob(s3: S3Storage, tmp_path: Path) -> None:
    key = s3.put(*staged(tmp_path, b"for everybody"))

    url = s3.presign(key, expires_s=60)

    assert url is not None
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"for everybody"


def test_nobody_is_sent_to_s3_unless_it_is_asked_for(weed: Seaweed) -> None:
    storage = open_s3(weed.url("there"), weed.environment)
    assert storage.presign("sha256/ab/abcd", expires_s=60) is None
    storage.close()


def test_more_than_a_page_is_listed(s3: S3Storage, tmp_path: Path) -> None:
    path, digest = staged(tmp_path, b"many")
    keys = {s3.put(path, digest) for _ in range(1050)}

    assert {found.key for found in s3.list()} == keys


def test_an_upload_that_fails_in_the_middle_leaves_nothing(weed: Seaweed, tmp_path: Path) -> None:
    path, digest = staged(tmp_path, os.urandom(11 * MEBIBYTE))
    with losing_connections(weed.endpoint, b"partNumber=2&") as endpoint:
        address = S3Address.parse(f"s3://hako/lost?endpoint={endpoint}")
        client = S3Client(address, S3Credentials(ACCESS_KEY, SECRET_KEY))
        storage = S3Storage(client, part_size=5 * MEBIBYTE)

        with pytest.raises(S3Error, match="cannot reach"):
            storage.put(path, digest)

        assert list(storage.list()) == []
        assert storage.abort_leftovers(2**40) == 0
        storage.close()


def test_uploads_that_nobody_ends_are_ended(s3: S3Storage) -> None:
    s3._client.send("POST", f"{s3._prefix}sha256/ab/abcd.1", query={"uploads": ""})

    assert s3.abort_leftovers(0) == 0
    assert s3.abort_leftovers(2**40) == 1
    assert s3.abort_leftovers(2**40) == 0


def test_wrong_keys_and_wrong_buckets_are_told(weed: Seaweed) -> None:
    wrong = open_s3(weed.url("x"), {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": "no"})
    with pytest.raises(S3Error, match="answers 403") as refused:
        wrong.check()
    assert SECRET_KEY not in str(refused.value)
    wrong.close()
    missing = open_s3(f"s3://nowhere/x?endpoint={weed.endpoint}", weed.environment)
    with pytest.raises(S3Error, match="NoSuchBucket"):
        missing.check()
    missing.close()


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
    nobody = open_s3(f"s3://hako/x?endpoint={endpoint}", dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "x"))  # fmt: skip

    with pytest.raises(S3Error, match=endpoint):
        nobody.check()


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///prefix",
        "s3://b/p?endpoint=ftp://x",
        "s3://b/p?endpont=http://x",
        "s3://b/p?redirect=perhaps",
        "s3://b/p?addressing=x",
    ],
)
def test_places_that_cannot_be_understood_are_refused(url: str) -> None:
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "x")
    with pytest.raises(UsageError):
        open_s3(url, keys)


def test_keys_that_are_missing_are_named() -> None:
    with pytest.raises(UsageError, match="AWS_SECRET_ACCESS_KEY is not set"):
        open_s3("s3://b/p", {"AWS_ACCESS_KEY_ID": "x"})


def test_amazons_own_is_addressed_by_host() -> None:
    address = S3Address.parse("s3://bucket/some/where?region=eu-west-1")

    assert (address.host, address.path("k")) == ("bucket.s3.eu-west-1.amazonaws.com", "/k")
    assert address.prefix == "some/where/"
