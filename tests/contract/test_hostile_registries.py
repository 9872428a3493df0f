"""What goes wrong between us and a registry, over a real connection: nothing wrong is stored, no secret leaves, and words are found."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.distribution.access import Access
from hakobune.distribution.errors import (
    NoAnswerError,
    RateLimitError,
    RegistryError,
    WrongContentError,
)
from hakobune.distribution.registries import Registries
from hakobune.distribution.transfer import find_or_pull, pull
from hakobune.errors import HakoError
from hakobune.oci import descriptor as media
from hakobune.oci.digest import Digest, DigestError
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.oci.unpack import UnpackError
from hakobune.progress import RecordedProgress, SilentProgress
from tests.hostile_registry import (
    Fault,
    Handler,
    HostileRegistry,
    cut_after,
    cut_upload_after,
    hostile_registry,
    send,
    stall_after,
    status,
)
from tests.transfer_world import (
    AMD64,
    SECRET,
    access,
    add_image,
    assert_pushed,
    assert_whole,
    get,
    needs_basic,
    put,
    web,
    with_tokens,
)

BLOBS = "/blobs/sha256:"


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "home") as store:
        yield store


def assert_nothing_is_left(store: Store, blob: str) -> None:
    assert not store.has_blob(Digest.parse(blob))
    assert store.names() == ()
    snapshots = store.home / "snapshots"
    assert not snapshots.exists() or [p for p in snapshots.iterdir() if p.name[0] != "."] == []
    assert not list((snapshots / ".new").glob("*"))


# Cuts and stalls


def test_a_download_that_is_cut_goes_on_where_it_stopped(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, cut_after(1_000_000), times=2)

    image = get(store, registry, access(tmp_path))

    assert_whole(store, image)
    ranges = [s.headers.get("range", "") for s in registry.requests("GET", blob)]
    assert ranges[0] == ""
    assert all(r.startswith("bytes=") and int(r[6:-1]) > 0 for r in ranges[1:])


def test_a_download_that_is_cut_again_and_again_advances(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry, size=2_000_000)
    registry.fail("GET", blob, cut_after(300_000), times=6)

    assert_whole(store, get(store, registry, access(tmp_path)))


def test_a_server_that_ignores_ranges_sends_all_and_only_the_rest_counts(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, cut_after(1_000_000), times=1)
    registry.fail("GET", blob, send(lambda data: data))

    assert_whole(store, get(store, registry, access(tmp_path)))


def test_a_download_that_stalls_is_asked_for_again(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, stall_after(1_000_000), times=1)

    assert_whole(store, get(store, registry, access(tmp_path, stall_s=0.5)))


def test_a_registry_that_never_gets_it_done_is_an_error_and_what_came_is_kept(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, cut_after(1_000_000), times=1)
    registry.fail("GET", blob, cut_after(0), times=20)

    with pytest.raises(NoAnswerError, match="cannot pull") as error:
        get(store, registry, access(tmp_path))

    assert "cut the connection" in error.value.why
    assert_nothing_is_left(store, blob)
    registry.rules.clear()
    before = len(registry.requests("GET", blob))
    assert_whole(store, get(store, registry, access(tmp_path)))
    (again,) = registry.requests("GET", blob)[before:]
    assert int(again.headers["range"][6:-1]) >= 900_000


@pytest.mark.parametrize("moment", [0.1, 0.3])
def test_a_pull_that_is_killed_is_resumed_by_the_next(
    store: Store, registry: HostileRegistry, tmp_path: Path, moment: float
) -> None:
    blob = add_image(registry, size=6_000_000)
    came = threading.Event()

    def slowly(handler: Handler) -> bool:
        data = handler.registry.blobs[blob]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:2_000_000])
        came.set()
        handler.registry.ended.wait(20)
        return True

    registry.fail("GET", blob, slowly, times=1)
    command = (
        "import sys; from pathlib import Path; from hakobune.distribution.transfer import pull;"
        "from hakobune.oci.store import Store; from hakobune.oci.reference import Reference;"
        "from hakobune.oci.platform import Platform; from hakobune.progress import SilentProgress;"
        "pull(Store(Path(sys.argv[1])), Reference.parse(sys.argv[2]), Platform('linux', 'amd64'), SilentProgress())"
    )
    arguments = [sys.executable, "-c", command, str(store.home), str(web(registry))]
    process = subprocess.Popen(arguments, env={**os.environ, "HOME": str(tmp_path)})
    try:
        assert came.wait(20)
        time.sleep(moment)
    finally:
        process.kill()
        process.wait()

    image = get(store, registry, access(tmp_path))

    assert_whole(store, image)
    (again,) = registry.requests("GET", blob)[1:]
    assert int(again.headers["range"][6:-1]) >= 1_000_000
    assert not list((store.home / "images" / ".hako" / "arriving").glob("*"))


def test_two_pulls_at_once_fetch_each_layer_once(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    images: list[Image] = []

    def run() -> None:
        with Store(store.home) as own:
            images.append(get(own, registry, access(tmp_path)))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(images) == 3
    assert len(registry.requests("GET", blob)) == 1
    assert_whole(store, images[0])


def test_layers_that_do_not_name_their_folders_get_them_from_below(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    """They arrive in any order, and are put together in the right one."""
    add_image(registry, layers=5, size=200_000, parents=False)

    image = get(store, registry, access(tmp_path))

    assert_whole(store, image)
    assert [s.key[0] for s in store.snapshots(image)] == ["c"] * 5


# Lies


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (lambda data: data[:-5], "bytes there, its manifest says"),
        (lambda data: data + b"more!", "bytes there, its manifest says"),
        (lambda data: data[:-5] + b"wrong", "damaged"),
        (lambda data: b"<html>maintenance</html>", "bytes there, its manifest says"),
        (lambda data: bytes(len(data)), "damaged"),
    ],
    ids=["shorter", "longer", "other bytes", "a page", "zeros"],
)
def test_wrong_bytes_are_never_stored(
    store: Store, registry: HostileRegistry, tmp_path: Path, lie: object, says: str
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, send(lie))  # type: ignore[arg-type] # parametrized

    with pytest.raises((WrongContentError, DigestError)) as error:
        get(store, registry, access(tmp_path))

    assert says in str(error.value)
    assert_nothing_is_left(store, blob)
    assert not list((store.home / "images" / ".hako" / "arriving").glob("*"))


def test_bytes_that_are_wrong_once_are_fetched_again(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, send(lambda data: data[:-5] + b"wrong"), times=1)

    assert_whole(store, get(store, registry, access(tmp_path)))


def test_a_body_without_a_length_that_does_not_end_is_cut_at_the_size(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)

    def endless(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(bytes(100_000))
        return True

    registry.fail("GET", blob, endless)

    with pytest.raises(WrongContentError, match="longer than"):
        get(store, registry, access(tmp_path))

    assert_nothing_is_left(store, blob)


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    other = registry.manifests["1"][1].replace(b"schemaVersion", b"schemaVersiom")
    digest = "sha256:" + hashlib.sha256(registry.manifests["1"][1]).hexdigest()
    registry.fail("GET", "/manifests/", send(lambda data: other, Content_Type=media.MANIFEST))

    with pytest.raises(WrongContentError, match="wrong content"):
        pull(
            store,
            Reference.parse(f"{registry.host}/shop/web@{digest}"),
            AMD64,
            SilentProgress(),
            access=access(tmp_path),
        )

    assert_nothing_is_left(store, blob)


def test_a_manifest_of_a_gigabyte_is_not_read(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    sent = 0

    def huge(handler: Handler) -> bool:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 30))
        handler.end_headers()
        while sent < 1 << 30:
            sent += handler.wfile.write(bytes(1 << 16))
        return True

    registry.fail("GET", "/manifests/", huge)

    with pytest.raises(WrongContentError, match="longer than 4 MiB"):
        get(store, registry, access(tmp_path))

    assert sent < 64 << 20


def test_a_layer_whose_tar_is_not_the_config_s_is_refused_and_unpacked_nowhere(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    config_digest = json.loads(registry.manifests["1"][1])["config"]["digest"]
    config = json.loads(registry.blobs[config_digest])
    config["rootfs"]["diff_ids"] = [f"sha256:{'0' * 64}"]
    raw = json.dumps(config).encode()
    manifest = json.loads(registry.manifests["1"][1])
    manifest["config"] |= {"digest": registry.put_blob(raw), "size": len(raw)}
    registry.put_manifest(media.MANIFEST, json.dumps(manifest).encode(), "1")

    with pytest.raises(UnpackError, match="damaged"):
        get(store, registry, access(tmp_path))

    assert store.names() == ()
    assert [p for p in (store.home / "snapshots").iterdir() if p.name[0] != "."] == []
    assert store.has_blob(Digest.parse(blob))  # it is what its digest says


# Redirects and secrets


def assert_secret_only_at(registry: HostileRegistry, *others: HostileRegistry) -> None:
    assert any("authorization" in seen.headers for seen in registry.seen)
    for other in others:
        assert other.seen
        assert not any("authorization" in seen.headers for seen in other.seen)


def test_credentials_do_not_follow_a_redirect_to_another_host(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    registry.fail("GET", ".*", needs_basic)
    registry.fail("HEAD", ".*", needs_basic)
    with hostile_registry() as cdn:
        cdn.blobs = registry.blobs

        def redirect(handler: Handler) -> bool:
            if not needs_basic(handler):
                handler.reply(307, Location=f"http://{cdn.host}/data/{blob}?sig=1")
            return True

        registry.fail("GET", blob, redirect, first=True)
        cdn.fail("GET", "/data/", lambda h: (h.send_content("x/y", cdn.blobs[blob]), True)[1])

        image = get(store, registry, access(tmp_path, auths={registry.host: f"ci:{SECRET}"}))

        assert_whole(store, image)
        assert_secret_only_at(registry, cdn)


def test_a_redirect_in_circles_ends(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, status(307, Location=f"/v2/shop/web/blobs/{blob}"))

    with pytest.raises(RegistryError, match="cannot pull") as error:
        get(store, registry, access(tmp_path))

    assert "circles" in error.value.why


def test_a_redirect_to_a_file_is_not_followed(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, status(307, Location="file:///etc/passwd"))

    with pytest.raises(RegistryError) as error:
        get(store, registry, access(tmp_path))

    assert "not a way to fetch" in error.value.why


def test_no_error_holds_a_secret(store: Store, registry: HostileRegistry, tmp_path: Path) -> None:
    add_image(registry)

    def echo(handler: Handler) -> bool:
        if "Authorization" not in handler.headers:
            return needs_basic(handler)
        body = {"errors": [{"code": "DENIED", "message": "no"}]}
        handler.reply(403, json.dumps(body).encode())
        return True

    registry.fail("GET", ".*", echo)
    registry.fail("HEAD", ".*", echo)
    progress = RecordedProgress()

    with pytest.raises(RegistryError) as error:
        pull(
            store,
            web(registry),
            AMD64,
            progress,
            access=access(tmp_path, auths={registry.host: f"ci:{SECRET}"}),
        )

    told = f"{error.value}{error.value!r}{progress.events}"
    assert SECRET not in told
    assert "'ci'" in error.value.why


# Tokens


def test_a_token_is_fetched_once_for_all_requests(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry, layers=4, size=100_000)
    registry.fail("GET", "^/token", status(200, b'{"token":"t0ken","expires_in":300}'))
    with_tokens(registry, f"http://{registry.host}/token")

    image = get(store, registry, access(tmp_path, auths={registry.host: f"ci:{SECRET}"}))

    assert_whole(store, image)
    (asked,) = registry.requests("GET", "^/token")
    assert asked.headers["authorization"].startswith("Basic ")
    assert "scope=repository%3Ashop%2Fweb%3Apull" in asked.query
    assert "service=reg" in asked.query


def test_a_token_server_on_another_host_gets_the_password_of_the_registry_only_over_loopback_or_tls(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    with_tokens(registry, "http://tokens.example/token")

    with pytest.raises(RegistryError) as error:
        get(store, registry, access(tmp_path, auths={registry.host: f"ci:{SECRET}"}))

    assert "is not used" in error.value.why or "no host is called" in error.value.why
    assert SECRET not in str(error.value)


def test_a_token_server_may_redirect_on_its_own_host(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    registry.fail("GET", "^/token$", status(308, Location="/token/v2?from=old"))
    registry.fail("GET", "^/token/v2$", status(200, b'{"token":"t0ken","expires_in":300}'))
    with_tokens(registry, f"http://{registry.host}/token")

    image = get(store, registry, access(tmp_path, auths={registry.host: f"ci:{SECRET}"}))

    assert_whole(store, image)
    for path in ("^/token$", "^/token/v2$"):
        (asked,) = registry.requests("GET", path)
        assert asked.headers["authorization"].startswith("Basic ")


def test_nobody_s_token_may_come_from_wherever_the_token_server_says(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    with hostile_registry() as other:
        there = status(307, Location=f"http://{other.host}/token")
        registry.fail("GET", "^/token", there)
        other.fail("GET", "^/token", status(200, b'{"token":"t0ken","expires_in":300}'))
        with_tokens(registry, f"http://{registry.host}/token")

        assert_whole(store, get(store, registry, access(tmp_path)))


@pytest.mark.parametrize("kind", ["password", "identity token"])
def test_a_token_server_s_redirect_takes_no_credentials_to_another_host(
    store: Store, registry: HostileRegistry, tmp_path: Path, kind: str
) -> None:
    add_image(registry)
    where = access(tmp_path, auths={registry.host: f"ci:{SECRET}"})
    if kind == "identity token":
        (tmp_path / "auth.json").write_text(
            json.dumps({"auths": {registry.host: {"identitytoken": "refresh-me"}}})
        )
    with hostile_registry() as other:
        for method in ("GET", "POST"):
            registry.fail(method, "^/token", status(307, Location=f"http://{other.host}/token"))
        with_tokens(registry, f"http://{registry.host}/token")

        with pytest.raises(RegistryError) as error:
            get(store, registry, where)

        assert "it is another host, and gets no credentials" in error.value.why
        assert other.host in error.value.why
        assert other.seen == []


@pytest.mark.parametrize("location", ["http://127.0.0.1:99999/x", "http://[127.0.0.1/x"])
def test_a_redirect_to_what_is_no_url_is_told(
    store: Store, registry: HostileRegistry, tmp_path: Path, location: str
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, status(307, Location=location))

    with pytest.raises(RegistryError) as error:
        get(store, registry, access(tmp_path))

    assert "it is no URL" in error.value.why


def test_a_refresh_token_is_posted_and_a_server_that_does_not_know_it_says_so(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    bodies: list[bytes] = []

    def token(handler: Handler) -> bool:
        bodies.append(handler.body())
        handler.reply(200, b'{"access_token":"t0ken","expires_in":300}')
        return True

    registry.fail("POST", "^/token", token)
    with_tokens(registry, f"http://{registry.host}/token")
    where = access(tmp_path)
    (tmp_path / "auth.json").write_text(
        json.dumps({"auths": {registry.host: {"identitytoken": "refresh-me"}}})
    )

    assert_whole(store, get(store, registry, where))
    assert b"grant_type=refresh_token" in bodies[0]
    assert b"refresh_token=refresh-me" in bodies[0]


def test_wrong_credentials_are_told_with_the_user_and_how_to_log_in(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    registry.fail("GET", "^/token", status(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}'))
    with_tokens(registry, f"http://{registry.host}/token")

    with pytest.raises(RegistryError) as error:
        get(store, registry, access(tmp_path, auths={registry.host: f"ci:{SECRET}"}))

    assert error.value.status == 401
    assert "'ci'" in error.value.why
    assert "login" in error.value.fix


def test_an_answer_of_the_token_server_that_is_no_token_is_told(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    registry.fail("GET", "^/token", status(200, b"<html>"))
    with_tokens(registry, f"http://{registry.host}/token")

    with pytest.raises(RegistryError) as error:
        get(store, registry, access(tmp_path))

    assert "no token" in error.value.why


# Limits and illness


def test_a_rate_limit_is_waited_for_as_the_registry_asks(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, status(429, Retry_After="1"), times=1)
    progress = RecordedProgress()
    begun = time.monotonic()

    pull(store, web(registry), AMD64, progress, access=access(tmp_path))

    assert time.monotonic() - begun >= 1.0
    assert any("asks to wait 1 s" in note for note in progress.texts("note"))


def test_a_rate_limit_of_hours_is_an_error_that_explains_it(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
    registry.fail("HEAD", "/manifests/", status(429, body, Retry_After="14400"))

    with pytest.raises(RateLimitError) as error:
        get(store, registry, access(tmp_path))

    assert "4.0 h" in error.value.why
    assert "log in" in error.value.fix


def test_a_registry_that_is_ill_for_a_moment_is_asked_again(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, status(503), times=2)
    registry.fail("GET", "/manifests/", status(502), times=1)

    assert_whole(store, get(store, registry, access(tmp_path)))


def test_what_is_not_there_is_not_asked_for_twice(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    with pytest.raises(HakoError) as error:
        find_or_pull(store, web(registry), AMD64, SilentProgress(), access=access(tmp_path))

    assert "it is not there (404 MANIFEST_UNKNOWN)" in error.value.why
    assert len(registry.requests("GET", "/manifests/")) == 1


@pytest.mark.parametrize("parents", [True, False])
def test_one_failing_layer_stops_the_others(
    store: Store, registry: HostileRegistry, tmp_path: Path, parents: bool
) -> None:
    blob = add_image(registry, layers=4, size=500_000, parents=parents)
    registry.fail("GET", blob, status(404))

    with pytest.raises(RegistryError):
        get(store, registry, access(tmp_path))

    assert store.names() == ()
    assert not store.has_blob(Digest.parse(blob))
    assert not list((store.home / "snapshots" / ".new").glob("*"))
    assert not [t for t in threading.enumerate() if t.name.startswith(("transfer", "layer"))]


# Pushing


@pytest.fixture
def pulled(store: Store, registry: HostileRegistry, tmp_path: Path) -> Image:
    add_image(registry, size=4_000_000)
    image = get(store, registry, access(tmp_path))
    registry.blobs.clear()
    registry.manifests.clear()
    return image


def test_an_upload_that_is_cut_goes_on_where_the_registry_says(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    registry.fail("PATCH", "/uploads/", cut_upload_after(1_500_000), times=1)

    put(store, pulled, registry, access(tmp_path))

    assert_pushed(registry, pulled)
    again = registry.requests("PATCH", "/uploads/")[1]
    assert again.headers["content-range"].startswith("1500000-")


def test_an_upload_whose_session_is_gone_begins_anew(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    registry.fail("PATCH", "/uploads/", cut_upload_after(1_500_000), times=1)
    registry.fail("GET", "/uploads/", status(404), times=1)

    put(store, pulled, registry, access(tmp_path))

    assert_pushed(registry, pulled)


def test_an_upload_that_is_refused_is_told(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"requested access is denied"}]}'
    registry.fail("POST", "/uploads/", status(403, body))

    with pytest.raises(RegistryError) as error:
        put(store, pulled, registry, access(tmp_path))

    assert error.value.what.startswith("cannot push")
    assert "requested access is denied" in error.value.why
    assert "1" not in registry.manifests


def test_an_upload_url_on_another_host_gets_no_credentials(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    with hostile_registry() as storage:

        def elsewhere(handler: Handler) -> bool:
            if needs_basic(handler):
                return True
            session = f"s{len(storage.uploads)}"
            storage.uploads[session] = bytearray()
            handler.reply(202, Location=f"http://{storage.host}/v2/x/blobs/uploads/{session}")
            return True

        registry.fail("POST", "/uploads/", elsewhere)
        for method in ("GET", "HEAD", "POST", "PUT"):
            registry.fail(method, ".*", needs_basic)

        put(store, pulled, registry, access(tmp_path, auths={registry.host: f"ci:{SECRET}"}))

        assert storage.seen
        assert_secret_only_at(registry, storage)


def test_a_manifest_is_put_last(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    before = len(registry.seen)

    put(store, pulled, registry, access(tmp_path))

    writes = [s for s in registry.seen[before:] if s.method == "PUT"]
    assert "/manifests/1" in writes[-1].path
    assert not any("/manifests/" in s.path for s in writes[:-1])


def test_an_unchanged_image_costs_one_request(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    put(store, pulled, registry, access(tmp_path))
    before = len(registry.seen)

    put(store, pulled, registry, access(tmp_path))

    assert [s.method for s in registry.seen[before:] if s.path != "/v2/"] == ["HEAD"]


def test_a_push_that_is_killed_is_resumed_by_the_next(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    came = threading.Event()

    def slowly(handler: Handler) -> bool:
        session = handler.path.rsplit("/", 1)[-1]
        registry.uploads[session] += handler.rfile.read(2_000_000)
        came.set()
        handler.registry.ended.wait(20)
        return True

    registry.fail("PATCH", "/uploads/", slowly, times=1)
    command = (
        "import sys; from pathlib import Path; from hakobune.distribution.transfer import push;"
        "from hakobune.oci.store import Store; from hakobune.oci.reference import Reference;"
        "from hakobune.progress import SilentProgress; store = Store(Path(sys.argv[1]));"
        "name = Reference.parse(sys.argv[2]); push(store, store.find_image(name), name, SilentProgress())"
    )
    arguments = [sys.executable, "-c", command, str(store.home), str(web(registry))]
    process = subprocess.Popen(arguments, env={**os.environ, "HOME": str(tmp_path)})
    try:
        assert came.wait(20)
    finally:
        process.kill()
        process.wait()

    put(store, pulled, registry, access(tmp_path))

    assert_pushed(registry, pulled)
    again = registry.requests("PATCH", "/uploads/")[1]
    assert again.headers["content-range"].startswith("2000000-")
    assert not list((store.home / "cache" / "uploads").iterdir())


# Mirrors


def with_mirror(registry: HostileRegistry, mirror: HostileRegistry, folder: Path) -> Access:
    path = folder / "registries.conf"
    path.write_text(
        f'[[registry]]\nlocation = "{registry.host}"\n'
        f'[[registry.mirror]]\nlocation = "{mirror.host}/mirrored"\n'
    )
    where = access(folder)
    env = {"CONTAINERS_REGISTRIES_CONF": str(path), "HOME": str(folder)}
    return replace(where, registries=Registries.read(env, folder))


def test_a_mirror_gives_what_it_has(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    with hostile_registry() as mirror:
        mirror.blobs, mirror.manifests = registry.blobs, registry.manifests

        image = get(store, registry, with_mirror(registry, mirror, tmp_path))

        assert_whole(store, image)
        assert mirror.requests("GET", f"/v2/mirrored/shop/web/blobs/{blob}")
        assert not registry.seen


@pytest.mark.parametrize(
    "fault",
    [status(404), status(429, Retry_After="9999"), status(403), cut_after(0)],
    ids=["has nothing", "limits", "refuses", "breaks"],
)
def test_what_a_mirror_does_not_give_the_registry_does(
    store: Store, registry: HostileRegistry, tmp_path: Path, fault: Fault
) -> None:
    blob = add_image(registry, size=100_000)
    with hostile_registry() as mirror:
        mirror.blobs, mirror.manifests = registry.blobs, registry.manifests
        mirror.fail("GET", "/blobs/", fault)

        image = get(store, registry, with_mirror(registry, mirror, tmp_path))

    assert_whole(store, image)
    assert registry.requests("GET", blob)


def test_a_mirror_that_gives_other_bytes_is_not_believed(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    with hostile_registry() as mirror:
        mirror.blobs, mirror.manifests = registry.blobs, registry.manifests
        mirror.fail("GET", blob, send(lambda data: data[:-5] + b"wrong"))

        image = get(store, registry, with_mirror(registry, mirror, tmp_path))

    assert_whole(store, image)
    assert registry.requests("GET", blob)


def test_a_mirror_that_is_down_is_passed_over(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    with hostile_registry() as mirror:
        where = with_mirror(registry, mirror, tmp_path)

    assert_whole(store, get(store, registry, where))


def test_a_mirror_that_does_not_answer_is_waited_for_once(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry, layers=4, size=100_000)
    with socket.create_server(("127.0.0.1", 0)) as silent, hostile_registry() as mirror:
        mirror.host = f"127.0.0.1:{silent.getsockname()[1]}"
        where = replace(with_mirror(registry, mirror, tmp_path), stall_s=0.3, connect_s=0.3)
        begun = time.monotonic()

        image = get(store, registry, where)

        assert_whole(store, image)
        assert time.monotonic() - begun < 4  # 2 tries, each by http and https


def test_a_push_goes_to_no_mirror(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    with hostile_registry() as mirror:
        put(store, pulled, registry, with_mirror(registry, mirror, tmp_path))

        assert_pushed(registry, pulled)
        assert not mirror.seen
