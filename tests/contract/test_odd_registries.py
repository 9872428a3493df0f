"""Registries as they are in the wild: what users of other clients have stumbled over, over a real connection."""

import contextlib
import gzip
import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest
import zstandard

from hakobune.distribution.access import Access
from hakobune.distribution.errors import NotThereError, RegistryError, WrongContentError
from hakobune.distribution.registries import Registries
from hakobune.distribution.transfer import copy, find_or_pull, open_repository, pull, push, resolve
from hakobune.errors import HakoError
from hakobune.oci import descriptor as media
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import RecordedProgress, SilentProgress
from tests.hostile_registry import (
    Fault,
    Handler,
    HostileRegistry,
    cut_after,
    hostile_registry,
    send,
    status,
)
from tests.real_registry import Tls, make_tls
from tests.transfer_world import (
    AMD64,
    SECRET,
    a_tar,
    access,
    add_image,
    assert_pushed,
    assert_whole,
    get,
    needs_basic,
    put,
    web,
)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH")


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "home") as store:
        yield store


@pytest.fixture
def pulled(store: Store, registry: HostileRegistry, tmp_path: Path) -> Image:
    add_image(registry, size=4_000_000)
    image = get(store, registry, access(tmp_path))
    registry.blobs.clear()
    registry.manifests.clear()
    registry.seen.clear()
    return image


def tags(registry: HostileRegistry, where: Access, home: Path) -> list[str]:
    name = web(registry)
    with open_repository(
        name, SilentProgress(), home=home, what="cannot list the tags", access=where
    ) as client:
        return list(client.tags())


# Tokens and challenges


def with_tokens(
    registry: HostileRegistry,
    tokens: Iterator[str],
    *,
    challenges: str = "",
    one_scope: bool = False,
) -> set[str]:
    """Each request needs one of the tokens that are given; those that count now, to be taken away.

    Args:
        challenges: what the header has before ours.
        one_scope: the token server refuses to give one for more than one repository.
    """
    valid: set[str] = set()

    def guard(handler: Handler) -> bool:
        if _token_of(handler) in valid:
            return False
        handler.body()
        repository = handler.path.split("/v2/")[1].split("/blobs/")[0].split("/manifests/")[0]
        realm = f'Bearer realm="http://{registry.host}/token",service="reg"'
        scope = f'scope="repository:{repository}:pull,push"'
        handler.reply(401, WWW_Authenticate=f"{challenges}{realm},{scope}")
        return True

    def token(handler: Handler) -> bool:
        if one_scope and handler.path.count("scope=") > 1:
            handler.reply(403, b'{"errors":[{"code":"DENIED","message":"access forbidden"}]}')
            return True
        given = next(tokens)
        valid.add(given)
        handler.reply(200, json.dumps({"token": given, "expires_in": 300}).encode())
        return True

    registry.fail("GET", "^/token", token)
    for method in METHODS:
        registry.fail(method, "^/v2/.", guard)
    return valid


def _token_of(handler: Handler) -> str:
    return handler.headers.get("Authorization", "").removeprefix("Bearer ")


def test_a_token_that_ends_while_a_layer_is_sent_is_asked_for_anew(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    valid = with_tokens(registry, (f"t{n}" for n in range(9)))

    def take_and_end(handler: Handler) -> bool:
        assert _token_of(handler) in valid
        handler._answer(handler.path.partition("?")[0], {})
        valid.clear()
        return True

    registry.fail("PATCH", "/uploads/", take_and_end, first=True)

    put(store, pulled, registry, access(tmp_path, auths={registry.host: f"ci:{SECRET}"}))

    assert_pushed(registry, pulled)
    assert len(registry.requests("GET", "^/token")) == 2
    assert len(registry.requests("PATCH", "/uploads/")) == 1


def test_a_token_that_ends_while_layers_are_fetched_is_asked_for_anew(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)
    valid = with_tokens(registry, (f"t{n}" for n in range(9)))

    def cut_and_end(handler: Handler) -> bool:
        assert _token_of(handler) in valid
        valid.clear()
        return cut_after(1_000_000)(handler)

    registry.fail("GET", blob, cut_and_end, times=1, first=True)

    assert_whole(store, get(store, registry, access(tmp_path)))
    assert len(registry.requests("GET", "^/token")) == 2


@pytest.mark.parametrize(
    "challenges",
    ['Basic realm="x", ', "Negotiate, ", 'Digest realm="a, b", nonce="x==", '],
)
def test_of_several_challenges_the_one_is_answered_that_can_be(
    store: Store, registry: HostileRegistry, tmp_path: Path, challenges: str
) -> None:
    """Anonymous: without a password Basic is no answer."""
    add_image(registry)
    with_tokens(registry, iter(["one", "two"]), challenges=challenges)

    assert_whole(store, get(store, registry, access(tmp_path)))


def test_a_401_without_a_challenge_is_told(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    for method in METHODS:
        registry.fail(method, "^/v2/", status(401))

    with pytest.raises(RegistryError) as error:
        get(store, registry, access(tmp_path))

    assert "no credentials were found" in error.value.why
    assert "hako auth login" in error.value.fix


def test_an_identity_token_that_has_ended_is_told(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    with_tokens(registry, iter(()))
    registry.fail("POST", "^/token", status(400, b'{"error":"invalid_grant"}'))
    where = access(tmp_path)
    (tmp_path / "auth.json").write_text(
        json.dumps({"auths": {registry.host: {"identitytoken": SECRET}}})
    )

    with pytest.raises(RegistryError) as error:
        get(store, registry, where)

    assert "does not accept the token of an earlier login any more (400)" in error.value.why
    assert error.value.fix.startswith("log in again: `hako auth login")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("refusal", [401, 403])
def test_a_mount_that_is_refused_is_an_upload(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path, refusal: int
) -> None:
    """Who may push here need not be allowed to pull there; the push must not need that token."""
    registry.fail("POST", "/uploads/", _refuse_mounts(refusal))
    other = Reference.parse(f"{registry.host}/shop/other:1")

    push(store, pulled, other, SilentProgress(), access=access(tmp_path))

    assert registry.manifests["1"][1] == pulled.raw
    assert any("mount=" in seen.query for seen in registry.requests("POST", "/uploads/"))


def _refuse_mounts(code: int) -> Fault:
    def fault(handler: Handler) -> bool:
        if "mount=" not in handler.path:
            return False
        handler.reply(code, b'{"errors":[{"code":"DENIED","message":"no"}]}')
        return True

    return fault


def test_a_token_server_that_gives_no_token_for_two_repositories_costs_the_mount_alone(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    with_tokens(registry, (f"t{n}" for n in range(99)), one_scope=True)
    other = Reference.parse(f"{registry.host}/shop/web2:1")

    push(
        store,
        pulled,
        other,
        SilentProgress(),
        access=access(tmp_path, auths={registry.host: f"ci:{SECRET}"}),
    )

    assert registry.manifests["1"][1] == pulled.raw
    assert any(seen.query.count("scope=") == 2 for seen in registry.requests("GET", "^/token"))


# Redirects and locations


def test_a_registry_that_redirects_to_another_gets_its_images_with_a_token_of_that_one(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    """As lscr.io and ghcr.io. Neither password nor token of the one gets to the other, nor what is known of the other."""
    with hostile_registry() as other:
        add_image(other, layers=2)
        with_tokens(other, (f"theirs{n}" for n in range(9)))

        def redirect(handler: Handler) -> bool:
            if not needs_basic(handler):
                handler.reply(307, Location=f"http://{other.host}{handler.path}")
            return True

        for method in ("GET", "HEAD"):
            registry.fail(method, "^/v2/.", redirect)
        auths = {registry.host: f"ci:{SECRET}", other.host: f"me:{SECRET}"}

        assert_whole(store, get(store, registry, access(tmp_path, auths=auths)))

    given = {seen.headers.get("authorization", "") for seen in other.seen}
    assert given <= {"", "Bearer theirs0"}
    assert not any("theirs" in seen.headers.get("authorization", "") for seen in registry.seen)


def test_a_registry_that_is_redirected_to_and_lets_nobody_in_is_named(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    with hostile_registry() as other:
        for method in ("GET", "HEAD"):
            registry.fail(method, "^/v2/.", status(307, Location=f"http://{other.host}/v2/x"))
            other.fail(method, ".*", needs_basic)
        auths = {registry.host: f"ci:{SECRET}", other.host: f"me:{SECRET}"}

        with pytest.raises(RegistryError) as error:
            get(store, registry, access(tmp_path, auths=auths))

        assert error.value.why.startswith(f"{other.host} does not accept nobody in particular")
        assert not any("authorization" in seen.headers for seen in other.seen)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_an_upload_that_is_sent_elsewhere_goes_there_whole_and_without_credentials(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path, method: str
) -> None:
    for each in METHODS:
        registry.fail(each, ".*", needs_basic)
    with hostile_registry() as storage:
        storage.blobs, storage.uploads = registry.blobs, registry.uploads

        def redirect(handler: Handler) -> bool:
            if needs_basic(handler):
                return True
            handler.body()
            handler.reply(307, Location=f"http://{storage.host}{handler.path}")
            return True

        registry.fail(method, "/uploads/", redirect, first=True)

        put(store, pulled, registry, access(tmp_path, auths={registry.host: f"ci:{SECRET}"}))

        assert_pushed(registry, pulled)
        assert storage.requests(method, "/uploads/")
        assert not any("authorization" in seen.headers for seen in storage.seen)


@pytest.mark.parametrize(
    "form",
    ["{path}", "{path}?_state=a%2Bb==&x=1", "http://{host}{path}?_state=a", "//{host}{path}"],
)
def test_a_location_may_be_relative_absolute_and_have_a_query(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path, form: str
) -> None:
    def begin(handler: Handler) -> bool:
        path = f"/v2/shop/web/blobs/uploads/{registry.new_session()}"
        handler.reply(202, Location=form.format(path=path, host=registry.host))
        return True

    registry.fail("POST", "/uploads/", begin)

    put(store, pulled, registry, access(tmp_path))

    assert_pushed(registry, pulled)
    (patch,) = registry.requests("PATCH", "/uploads/")
    assert patch.query == form.partition("?")[2]


def test_a_proxy_that_answers_before_it_has_read_and_speaks_tls_for_the_registry(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    """HAProxy, which closes the connection with its 413; the registry calls itself http://, as it knows no better."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"

    def begin(handler: Handler) -> bool:
        path = f"/v2/shop/web/blobs/uploads/{registry.new_session()}"
        handler.reply(202, Location=f"http://{host}{path}")
        return True

    registry.fail("POST", "/uploads/", begin)
    tls = make_tls(tmp_path / "tls")
    with haproxy(host, registry.host, tls, tmp_path, limit=1_500_000):
        where = replace(access(tmp_path), registries=Registries(insecure=(host,)))

        push(
            store,
            pulled,
            Reference.parse(f"{host}/shop/web:1"),
            SilentProgress(),
            access=where,
        )

    assert_pushed(registry, pulled)
    assert len(registry.requests("PATCH", "/uploads/")) == 4


@contextlib.contextmanager
def haproxy(host: str, registry: str, tls: Tls, folder: Path, *, limit: int) -> Iterator[None]:
    """At *host* with TLS, before *registry*; requests longer than *limit* bytes get 413."""
    both = folder / "both.pem"
    both.write_bytes(tls.certificate.read_bytes() + tls.key.read_bytes())
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        f"""
global
  maxconn 50
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen registry
  bind {host} ssl crt {both}
  http-request deny deny_status 413 if {{ req.hdr(content-length) -m int gt {limit} }}
  server registry {registry}
"""
    )
    process = subprocess.Popen(["haproxy", "-q", "-f", str(configuration)])
    try:
        address, _, port = host.partition(":")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection((address, int(port)), 1):
                break
            assert process.poll() is None
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("limit", [1_500_000, 1 << 20])
def test_a_proxy_that_takes_little_at_once_gets_it_in_pieces(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path, limit: int
) -> None:
    def too_long(handler: Handler) -> bool:
        if int(handler.headers["Content-Length"]) <= limit:
            return False
        handler.body()
        handler.reply(413, b"<html><title>413 Request Entity Too Large</title></html>")
        return True

    registry.fail("PATCH", "/uploads/", too_long)

    put(store, pulled, registry, access(tmp_path))

    assert_pushed(registry, pulled)
    assert len(registry.requests("PATCH", "/uploads/")) == 5


def test_a_proxy_that_cuts_what_is_long_gets_it_in_pieces(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    def too_long(handler: Handler) -> bool:
        if int(handler.headers["Content-Length"]) <= 1 << 20:
            return False
        handler.cut()
        return True

    registry.fail("PATCH", "/uploads/", too_long)

    put(store, pulled, registry, access(tmp_path))

    assert_pushed(registry, pulled)


def test_a_proxy_that_takes_almost_nothing_is_told_as_the_reason(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    registry.fail("PATCH", "/uploads/", status(413))

    with pytest.raises(RegistryError) as error:
        put(store, pulled, registry, access(tmp_path))

    assert "does not take so much at once (413)" in error.value.why
    assert "client_max_body_size" in error.value.fix


# Lists


def test_a_repository_without_tags_may_say_null(registry: HostileRegistry, tmp_path: Path) -> None:
    registry.fail("GET", "/tags/list", status(200, b'{"name":"shop/web","tags":null}'))

    assert tags(registry, access(tmp_path), tmp_path) == []


@pytest.mark.parametrize(
    "link",
    [
        '</v2/shop/web/tags/list?n=1&last=a>; rel="next"',
        "<http://{host}/v2/shop/web/tags/list?n=1&last=a>;rel=next",
        '<https://inner.invalid:8443/v2/shop/web/tags/list?n=1&last=a>; rel="next"',
        '</v2/shop/web/tags/list>; rel="first", <list?n=1&last=a>; rel="next"',
        '</v2/shop/web/tags/list?n=1&last=a>; title="x"; rel="last next"',
    ],
)
def test_the_next_page_is_found_however_it_is_linked(
    registry: HostileRegistry, tmp_path: Path, link: str
) -> None:
    def page(handler: Handler) -> bool:
        if "last=" in handler.path:
            handler.reply(200, b'{"name":"shop/web","tags":["b"]}')
        else:
            body = b'{"name":"shop/web","tags":["a"]}'
            handler.reply(200, body, Link=link.format(host=registry.host))
        return True

    registry.fail("GET", "/tags/list", page)

    assert tags(registry, access(tmp_path), tmp_path) == ["a", "b"]
    assert registry.seen[-1].query == "n=1&last=a"


def test_a_page_that_links_itself_ends_the_list(registry: HostileRegistry, tmp_path: Path) -> None:
    link = '</v2/shop/web/tags/list?n=1>; rel="next"'
    registry.fail("GET", "/tags/list", status(200, b'{"tags":["a"]}', Link=link))

    assert tags(registry, access(tmp_path), tmp_path) == ["a", "a"]


# How HTTP is spoken


def _chunked(handler: Handler) -> bool:
    found = handler.content()
    if found is None:
        return False
    handler.send_response(200)
    handler.send_header("Content-Type", found[0])
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for at in range(0, len(found[1]), 100_000):
        piece = found[1][at : at + 100_000]
        handler.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")
    return True


def _without_length(handler: Handler) -> bool:
    found = handler.content()
    if found is None:
        return False
    handler.send_response(200)
    handler.send_header("Content-Type", found[0])
    handler.end_headers()
    handler.wfile.write(found[1])
    handler.end()
    return True


@pytest.mark.parametrize("way", [_chunked, _without_length])
def test_answers_may_have_no_length(
    store: Store, registry: HostileRegistry, tmp_path: Path, way: Fault
) -> None:
    add_image(registry, layers=2)
    registry.fail("GET", "/(manifests|blobs)/", way)

    assert_whole(store, get(store, registry, access(tmp_path)))


def test_a_chunked_answer_that_is_cut_goes_on(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    blob = add_image(registry)

    def cut(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n" % 3_000_000 + registry.blobs[blob][:1_000_000])
        handler.end()
        return True

    registry.fail("GET", blob, cut, times=1)

    assert_whole(store, get(store, registry, access(tmp_path)))
    assert "range" in registry.requests("GET", blob)[1].headers


def test_http_1_0_is_understood(store: Store, tmp_path: Path) -> None:
    with hostile_registry() as registry:
        add_image(registry, layers=2)

        def old(handler: Handler) -> bool:
            handler.protocol_version = "HTTP/1.0"
            handler.close_connection = True
            return False

        for method in METHODS:
            registry.fail(method, ".*", old)

        image = get(store, registry, access(tmp_path))
        assert_whole(store, image)
        push(
            store,
            image,
            Reference.parse(f"{registry.host}/shop/web:2"),
            SilentProgress(),
            access=access(tmp_path),
        )
        assert registry.manifests["2"][1] == image.raw


def test_an_address_of_ipv6_is_a_registry(store: Store, tmp_path: Path) -> None:
    with hostile_registry(address="::1") as registry:
        add_image(registry)

        image = get(store, registry, access(tmp_path))
        put(store, image, registry, access(tmp_path))

        assert_whole(store, image)
        assert all(seen.headers["host"] == registry.host for seen in registry.seen)
        assert registry.host.startswith("[::1]:")


@pytest.mark.parametrize("code", [405, 501, 403, 400])
def test_a_registry_without_head_is_asked_by_get(
    store: Store, registry: HostileRegistry, tmp_path: Path, code: int
) -> None:
    add_image(registry)
    registry.fail("HEAD", ".*", status(code))

    image = get(store, registry, access(tmp_path))

    assert_whole(store, image)
    assert resolve(store, web(registry), SilentProgress(), access=access(tmp_path)) == image.digest
    registry.blobs.clear()
    registry.manifests.clear()
    put(store, image, registry, access(tmp_path))
    assert_pushed(registry, image)


def test_a_head_that_is_forbidden_is_told_with_the_reason_that_only_a_get_has(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    registry.fail("HEAD", ".*", status(403))
    body = b'{"errors":[{"code":"DENIED","message":"blocked by a policy"}]}'
    registry.fail("GET", "/manifests/", status(403, body))

    with pytest.raises(RegistryError) as error:
        get(store, registry, access(tmp_path))

    assert "blocked by a policy" in error.value.why


def test_a_head_with_a_body_spoils_nothing(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)

    def body_too(handler: Handler) -> bool:
        _, raw = handler.content() or ("", b"")
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)
        return True

    registry.fail("HEAD", ".*", body_too)

    assert_whole(store, get(store, registry, access(tmp_path)))


def test_a_connection_that_the_server_closed_meanwhile_is_no_error(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry, layers=3)

    def close_after(handler: Handler) -> bool:
        handler.close_connection = True  # without saying so
        return False

    for method in METHODS:
        registry.fail(method, ".*", close_after)

    image = get(store, registry, access(tmp_path))
    registry.blobs.clear()
    registry.manifests.clear()
    put(store, image, registry, access(tmp_path))

    assert_whole(store, image)
    assert_pushed(registry, image)


def _send_another_range(handler: Handler) -> None:
    data = handler.content()[1]
    handler.reply(206, data[5:], Content_Range=f"bytes 5-{len(data) - 1}/{len(data)}")


@pytest.mark.parametrize(
    "fault",
    [
        status(416),
        lambda handler: (_send_another_range(handler), True)[1],
        lambda handler: (handler.reply(206, handler.content()[1][1000:]), True)[1],
    ],
    ids=["416", "another range", "no range named"],
)
def test_who_gives_no_parts_is_asked_for_all_of_it(
    store: Store, registry: HostileRegistry, tmp_path: Path, fault: Fault
) -> None:
    blob = add_image(registry)
    registry.fail("GET", blob, cut_after(1_000_000), times=1)

    def only_ranges(handler: Handler) -> bool:
        return "Range" in handler.headers and fault(handler)

    registry.fail("GET", blob, only_ranges)

    assert_whole(store, get(store, registry, access(tmp_path)))


# Words


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"errors":[{"code":"UNKNOWN","message":"the disk is full"}]}', "the disk is full"),
        (b'{"message":"storage quota reached"}', "storage quota reached"),
        (b'{"error":"x","error_description":"not today"}', "not today"),
        (b'{"details":"incorrect username or password"}', "incorrect username or password"),
        (b"<html><h1>500 Internal</h1>", "answered 500"),
        (b'{"errors":"what"}', "answered 500"),
    ],
)
def test_what_a_server_says_is_told_if_it_is_for_people(
    store: Store, registry: HostileRegistry, tmp_path: Path, body: bytes, said: str
) -> None:
    add_image(registry)
    registry.fail("GET", "/manifests/", status(500, body, Content_Type="text/html"))

    with pytest.raises(RegistryError) as error:
        get(store, registry, _impatient(access(tmp_path)))

    assert said in error.value.why
    assert "<" not in error.value.why


def _impatient(where: Access) -> Access:
    return replace(where, attempts=1)


def test_a_date_in_retry_after_is_waited_for(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    when = formatdate(time.time() + 2, usegmt=True)
    registry.fail("GET", "/manifests/", status(503, Retry_After=when), times=1)
    progress = RecordedProgress()

    pull(store, web(registry), AMD64, progress, access=access(tmp_path))

    assert any("asks to wait" in note for note in progress.texts("note"))


def test_a_login_page_of_the_network_is_not_taken_for_a_manifest(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    page = status(200, b"<html>Log in to the WLAN</html>", Content_Type="text/html; charset=utf-8")
    registry.fail("GET", ".*", page)
    registry.fail("HEAD", ".*", page)

    with pytest.raises(WrongContentError) as error:
        get(store, registry, access(tmp_path))

    assert "a web page instead of a manifest" in error.value.why


def test_a_repository_that_must_be_made_first_is_told(
    store: Store, registry: HostileRegistry, pulled: Image, tmp_path: Path
) -> None:
    body = b'{"errors":[{"code":"NAME_UNKNOWN","message":"The repository does not exist"}]}'
    registry.fail("POST", "/uploads/", status(404, body))

    with pytest.raises(NotThereError) as error:
        put(store, pulled, registry, access(tmp_path))

    assert "has no such repository (404 NAME_UNKNOWN: The repository does not exist)" in error.value.why  # fmt: skip
    assert "made before the first push" in error.value.fix


# Kinds of content


def test_docker_s_first_format_is_told(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    raw = json.dumps({"schemaVersion": 1, "name": "shop/web", "tag": "1", "fsLayers": []}).encode()
    registry.put_manifest("application/vnd.docker.distribution.manifest.v1+prettyjws", raw, "1")

    with pytest.raises(HakoError, match="docker's old format") as error:
        get(store, registry, access(tmp_path))

    assert "schemaVersion 1" in error.value.why
    assert "skopeo copy --format v2s2" in error.value.fix


def add_artefact(registry: HostileRegistry, *tags: str) -> str:
    config, chart = registry.put_blob(b"{}"), registry.put_blob(b"a chart")
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": "application/vnd.test.chart",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/x-chart", "digest": chart, "size": 7}],
    }
    return registry.put_manifest(media.MANIFEST, json.dumps(manifest).encode(), *tags)


def test_an_artefact_is_told_to_be_none_and_copied_as_it_is(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    digest = add_artefact(registry, "1")

    with pytest.raises(HakoError, match="no image that can be run") as error:
        get(store, registry, access(tmp_path))

    assert "application/vnd.test.chart" in error.value.why
    assert store.names() == ()
    with hostile_registry() as target:
        name = Reference.parse(f"{target.host}/copied/chart:1")
        copied = copy(web(registry), name, SilentProgress(), home=tmp_path, access=access(tmp_path))
        assert str(copied) == digest
        assert target.manifests["1"] == registry.manifests["1"]
        assert len(target.blobs) == 2


def test_an_index_with_attestations_gives_the_image_and_is_kept_and_pushed_whole(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry, size=50_000)
    image_raw = registry.manifests["1"][1]
    attestation = add_artefact(registry)
    entries = [
        _entry(attestation, len(registry.manifests[attestation][1]), "unknown", "unknown"),
        _entry(f"sha256:{hashlib.sha256(image_raw).hexdigest()}", len(image_raw), "linux", "amd64"),
    ]
    index = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries}
    raw = json.dumps(index).encode()
    registry.put_manifest(media.INDEX, raw, "1")

    image = get(store, registry, access(tmp_path))

    assert image.raw == image_raw
    assert not any(attestation in seen.path for seen in registry.seen)
    pull(store, web(registry), AMD64, SilentProgress(), access=access(tmp_path), all_platforms=True)
    kept = store.find_digest(web(registry))
    assert kept is not None
    store.collect()
    with hostile_registry() as target:
        name = Reference.parse(f"{target.host}/shop/web:1")
        push(store, kept, name, SilentProgress(), access=access(tmp_path))
        assert target.manifests["1"][1] == raw
        assert attestation in target.manifests
    with pytest.raises(HakoError, match="has no image for linux/s390x") as error:
        find_or_pull(
            store,
            web(registry),
            _platform("linux/s390x"),
            SilentProgress(),
            access=access(tmp_path),
        )
    assert error.value.why == "it has linux/amd64"


def _platform(text: str):
    from hakobune.oci.platform import Platform

    return Platform.parse(text)


def _entry(digest: str, size: int, os_name: str, architecture: str) -> dict[str, object]:
    platform = {"os": os_name, "architecture": architecture}
    return {"mediaType": media.MANIFEST, "digest": digest, "size": size, "platform": platform}


def test_of_a_tag_with_a_digest_the_digest_decides(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry, size=20_000)
    wanted = f"sha256:{hashlib.sha256(registry.manifests['1'][1]).hexdigest()}"
    add_image(registry, size=20_000)  # the tag is another one's now
    name = Reference.parse(f"{registry.host}/shop/web:1@{wanted}")

    image = pull(store, name, AMD64, SilentProgress(), access=access(tmp_path))

    assert str(image.digest) == wanted
    assert store.find_image(name) == image
    asked = len(registry.seen)
    again = find_or_pull(store, name, AMD64, SilentProgress(), access=access(tmp_path))
    assert again == image
    assert len(registry.seen) == asked


def test_zstd_chunked_is_unpacked_past_what_it_has_for_others(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    """Several frames, and frames to be skipped with a table of contents between and after them."""
    tar = a_tar("f", os.urandom(300_000))
    toc = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"table"
    compress = zstandard.ZstdCompressor().compress
    blob = compress(tar[:1000]) + compress(tar[1000:200_000]) + toc + compress(tar[200_000:]) + toc
    _add_layer(registry, tar, blob, media.LAYER_ZSTD)

    image = get(store, registry, access(tmp_path))

    assert_whole(store, image)


def test_estargz_and_members_of_gzip_are_one_layer(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    tar = a_tar("f", os.urandom(300_000))
    blob = b"".join(gzip.compress(part) for part in (tar[:512], tar[512:9000], tar[9000:], b""))
    _add_layer(registry, tar, blob, media.LAYER_GZIP)

    assert_whole(store, get(store, registry, access(tmp_path)))


def _add_layer(registry: HostileRegistry, tar: bytes, blob: bytes, media_type: str) -> None:
    """An image `web:1` of that one layer."""
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]}
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()
    layer = {"mediaType": media_type, "digest": registry.put_blob(blob), "size": len(blob)}
    manifest = {
        "schemaVersion": 2,
        "config": {
            "mediaType": media.CONFIG,
            "digest": registry.put_blob(config),
            "size": len(config),
        },
        "layers": [layer],
    }
    registry.put_manifest(media.MANIFEST, json.dumps(manifest).encode(), "1")


def test_a_digest_that_the_registry_announces_wrongly_is_refused(
    store: Store, registry: HostileRegistry, tmp_path: Path
) -> None:
    add_image(registry)
    other = str(Digest.of(b"other"))
    registry.fail("GET", "/manifests/", send(lambda raw: raw, Docker_Content_Digest=other))
    registry.fail("HEAD", "/manifests/", status(200))  # then only the GET says a digest

    with pytest.raises(WrongContentError):
        get(store, registry, access(tmp_path))

    assert store.names() == ()
