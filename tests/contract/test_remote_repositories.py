"""Remote repositories against an upstream that does what it is told to do wrong: the faults that users of other caches have reported (facts/registry.md §3)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.registry.errors import RegistryError
from hakobune.registry.growing import BrokenBodyError, Growing
from hakobune.registry.metadata import StoredBlob
from tests.hostile_registry import (
    Handler,
    HostileRegistry,
    cut_after,
    hostile_registry,
    send,
    stall_after,
    status,
)
from tests.real_registry import PASSWORD, USER, make_tls, token_server
from tests.real_registry import registry as real_registry
from tests.registry_client import RegistryHttp
from tests.remote_world import World, put_image, put_index, read_growing, run

LAYER = os.urandom(300_000)
CONDITIONAL = "/manifests/latest"


@pytest.fixture
def upstream() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        yield registry


def pulls(upstream: HostileRegistry) -> int:
    """What Docker Hub counts as pulls."""
    return len(upstream.requests("GET", "/manifests/"))


# Single flight


def test_cold_clients_of_all_workers_are_one_transfer(tmp_path: Path, upstream: HostileRegistry):
    """distribution#3969, #4511: one download a client."""
    put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        clients = [world.sources, *world.others] * 8
        await asyncio.gather(*(world.pull(hub, "web", by=sources) for sources in clients))
        await world.settled()

    run(tmp_path, work, workers=2)
    assert len(upstream.requests("GET", "/blobs/")) == 2  # layer and config


def test_one_question_at_a_time_is_one_pull_for_all_workers(
    tmp_path: Path, upstream: HostileRegistry
):
    """Docker Hub counts each GET of a manifest."""
    digest = put_image(upstream, LAYER)

    def slow(handler: Handler) -> bool:
        time.sleep(0.2)
        return False

    upstream.fail("GET", "/manifests/", slow)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        clients = [world.sources, *world.others] * 3
        asked = [sources.find_manifest(hub, "web", "latest") for sources in clients]
        assert {found.manifest.digest for found in await asyncio.gather(*asked)} == {digest}
        assert pulls(upstream) == 1
        assert list((world.home / "partial").iterdir()) == []

    run(tmp_path, work, workers=3)


def test_a_new_ttl_counts_at_once(tmp_path: Path, upstream: HostileRegistry):
    """distribution#4249: it had no effect on what was cached."""
    put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=3600)
        await world.pull(hub, "web")
        new = put_image(upstream, b"new")
        assert hub.remote is not None
        hub = await world.metadata.update_repository(
            replace(hub, remote=replace(hub.remote, tag_ttl_s=0)), "owner"
        )
        assert await world.pull(hub, "web") == new

    run(tmp_path, work)


def test_what_is_pulled_again_needs_no_upstream(tmp_path: Path, upstream: HostileRegistry):
    put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        first = await world.pull(hub, "web")
        asked = len(upstream.seen)
        assert await world.pull(hub, "web") == first
        assert len(upstream.seen) == asked

    run(tmp_path, work)


def test_one_repository_forgetting_a_blob_leaves_it_to_the_others(
    tmp_path: Path, upstream: HostileRegistry
):
    """distribution#2367: a shared blob was deleted under another repository, which then answered 200 with 0 bytes."""
    put_image(upstream, LAYER)

    async def work(world: World) -> None:
        one, other = await world.remote("one", upstream), await world.remote("other", upstream)
        digest = await world.pull(one, "web")
        await world.settled()
        await world.pull(other, "web")
        transfers = len(upstream.requests("GET", "/blobs/"))
        await world.metadata.delete_manifest(one, "web", digest, "owner")
        await world.pull(other, "web")
        assert len(upstream.requests("GET", "/blobs/")) == transfers == 2

    run(tmp_path, work)


def test_what_was_deleted_here_is_fetched_again_and_never_said_to_be_there(
    tmp_path: Path, upstream: HostileRegistry
):
    """distribution#1356, #4957: memory said "exists" after an eviction."""
    put_image(upstream, LAYER)
    layer = next(d for d, data in upstream.blobs.items() if data == LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        digest = await world.pull(hub, "web")
        await world.settled()
        await world.metadata.delete_manifest(hub, "web", digest, "owner")
        await world.metadata.unlink_blob(hub, "web", layer, "owner")
        assert await world.metadata.find_blob(hub, layer) is None
        assert await world.pull(hub, "web") == digest
        assert len(upstream.requests("GET", layer)) == 2

    run(tmp_path, work)


def test_a_head_of_a_blob_that_is_not_cached_goes_upstream_and_fetches_nothing(
    tmp_path: Path, upstream: HostileRegistry
):
    """distribution#4747: chained caches failed on a 404."""
    digest = upstream.put_blob(LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        assert await world.sources.blob_size(hub, "web", digest) == len(LAYER)
        with pytest.raises(RegistryError) as caught:
            await world.sources.blob_size(hub, "web", "sha256:" + "0" * 64)
        assert caught.value.code == "BLOB_UNKNOWN"

    run(tmp_path, work)
    assert upstream.requests("GET", "/blobs/") == []


def test_the_size_of_what_is_arriving_is_known_without_a_question(
    tmp_path: Path, upstream: HostileRegistry
):
    digest = upstream.put_blob(LAYER)
    upstream.fail("GET", "/blobs/", stall_after(100_000))

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        growing = await world.sources.open_blob(hub, "web", digest)
        assert isinstance(growing, Growing)
        assert await world.sources.blob_size(hub, "web", digest) == len(LAYER)
        assert upstream.requests("HEAD", "/blobs/") == []
        upstream.ended.set()
        growing.close()

    run(tmp_path, work)


# Freshness


def test_a_tag_is_checked_by_a_conditional_head_after_its_ttl_and_fetched_only_if_it_moved(
    tmp_path: Path, upstream: HostileRegistry
):
    """harbor#19899: a HEAD for every pull is too many, and a GET counts."""
    old = put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=60)
        assert await world.pull(hub, "web") == old
        world.later(59)
        await world.pull(hub, "web")
        assert upstream.requests("HEAD", "/manifests/") == []
        world.later(2)
        await world.pull(hub, "web")
        heads = upstream.requests("HEAD", "/manifests/")
        assert [h.headers["if-none-match"] for h in heads] == [f'"{old}"']
        assert pulls(upstream) == 1
        new = put_image(upstream, b"new")
        world.later(61)
        assert await world.pull(hub, "web") == new
        assert pulls(upstream) == 2
        assert (await world.sources.find_manifest(hub, "web", old)).manifest.digest == old

    run(tmp_path, work)


def test_a_tag_that_moves_back_to_what_is_cached_is_not_fetched(
    tmp_path: Path, upstream: HostileRegistry
):
    old = put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=0)
        await world.pull(hub, "web")
        put_image(upstream, b"new")
        await world.pull(hub, "web")
        counted = pulls(upstream)
        put_image(upstream, LAYER)
        assert await world.pull(hub, "web") == old
        assert pulls(upstream) == counted == 2

    run(tmp_path, work)


def test_an_upstream_that_knows_no_head_is_asked_by_get(tmp_path: Path, upstream: HostileRegistry):
    put_image(upstream, LAYER)
    upstream.fail("HEAD", "/manifests/", status(405))

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=0)
        await world.pull(hub, "web")
        new = put_image(upstream, b"new")
        assert await world.pull(hub, "web") == new

    run(tmp_path, work)


def test_digests_never_ask_again(tmp_path: Path, upstream: HostileRegistry):
    """docker-registry-proxy#35."""
    digest = put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=0)
        await world.pull(hub, "web", digest)
        asked = len(upstream.seen)
        world.later(10**6)
        await world.pull(hub, "web", digest)
        assert len(upstream.seen) == asked

    run(tmp_path, work)


def test_what_is_not_there_is_not_asked_for_again_for_a_minute(
    tmp_path: Path, upstream: HostileRegistry
):
    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        for _ in range(3):
            with pytest.raises(RegistryError) as caught:
                await world.sources.find_manifest(hub, "web", "v9")
            assert (caught.value.status, caught.value.code) == (404, "MANIFEST_UNKNOWN")
        assert pulls(upstream) == 1
        put_image(upstream, LAYER, tag="v9")
        world.later(61)
        await world.pull(hub, "web", "v9")

    run(tmp_path, work)


# A failing upstream


@pytest.mark.parametrize("code", [500, 502, 503, 429, 401, 403])
def test_what_is_cached_is_served_with_a_warning_while_the_upstream_fails(
    tmp_path: Path, upstream: HostileRegistry, code: int
):
    """harbor#19899, #23750: 429 was passed on although the image was cached."""
    digest = put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=60)
        await world.pull(hub, "web")
        upstream.fail("HEAD", ".*", status(code))
        upstream.fail("GET", ".*", status(code))
        world.later(7200)
        for _ in range(2):
            found = await world.sources.find_manifest(hub, "web", "latest")
            assert found.manifest.digest == digest
            assert found.note.startswith("stale: served from the cache, last checked 2 h ago: ")
            assert upstream.host in found.note
            assert found.fresh_s == 0.0
        await world.pull(hub, "web")

    run(tmp_path, work)


def test_what_is_cached_is_served_offline_without_a_ping_or_a_token(tmp_path: Path):
    """distribution#1272, moby#18678, quay PR 5347: the token came first, so cached images were unusable."""
    with hostile_registry() as upstream:
        digest = put_image(upstream, LAYER)

        async def fill(world: World) -> None:
            await world.pull(await world.remote("hub", upstream, tag_ttl_s=60), "web")
            await world.settled()

        run(tmp_path, fill)

    async def offline(world: World) -> None:
        hub = await world.metadata.find_repository("demo", "hub")
        assert hub is not None
        assert await world.pull(hub, "web") == digest
        world.later(3600)
        began = time.monotonic()
        found = await world.sources.find_manifest(hub, "web", "latest")
        assert found.manifest.digest == digest
        assert "refused" in found.note
        assert time.monotonic() - began < 2

    run(tmp_path, offline)


def test_a_failing_upstream_is_not_asked_for_each_pull_of_what_is_cached(
    tmp_path: Path, upstream: HostileRegistry
):
    put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=0)
        await world.pull(hub, "web")
        upstream.fail("HEAD", ".*", status(503))
        for _ in range(5):
            await world.sources.find_manifest(hub, "web", "latest")
        assert len(upstream.requests("HEAD", "/manifests/")) == 1
        world.later(11)
        await world.sources.find_manifest(hub, "web", "latest")
        assert len(upstream.requests("HEAD", "/manifests/")) == 2

    run(tmp_path, work)


def test_a_limit_is_told_as_one_with_the_time_to_come_back_and_not_asked_again_before(
    tmp_path: Path, upstream: HostileRegistry
):
    """harbor#18752: 404 was shown when the login was limited."""
    put_image(upstream, LAYER)
    upstream.fail("GET", ".*", status(429, Retry_After="120"), times=1)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        for _ in range(2):
            with pytest.raises(RegistryError) as caught:
                await world.sources.find_manifest(hub, "web", "latest")
            assert (caught.value.status, caught.value.code) == (429, "TOOMANYREQUESTS")
            assert 110 < (caught.value.retry_after_s or 0) <= 120
        assert pulls(upstream) == 1
        world.later(121)
        await world.pull(hub, "web")

    run(tmp_path, work)


@pytest.mark.parametrize(("code", "expected"), [(500, 502), (503, 502), (404, 404), (401, 404)])
def test_what_is_not_cached_fails_in_words_and_never_asks_the_client_for_other_credentials(
    tmp_path: Path, upstream: HostileRegistry, code: int, expected: int
):
    upstream.fail("GET", ".*", status(code))

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        with pytest.raises(RegistryError) as caught:
            await world.sources.find_manifest(hub, "web", "latest")
        assert caught.value.status == expected
        assert upstream.host in caught.value.message
        assert "demo/hub/web:latest" in caught.value.message

    run(tmp_path, work)


def test_what_the_upstream_has_removed_is_still_served_and_said_to_be(
    tmp_path: Path, upstream: HostileRegistry
):
    """harbor#22415."""
    digest = put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=60)
        await world.pull(hub, "web")
        upstream.manifests.clear()
        world.later(61)
        for _ in range(2):
            found = await world.sources.find_manifest(hub, "web", "latest")
            assert found.manifest.digest == digest
            assert "no longer has this" in found.note

    run(tmp_path, work)


def test_what_the_upstream_has_removed_is_dropped_where_the_repository_wants_that(
    tmp_path: Path, upstream: HostileRegistry
):
    """zot#3102: no way to drop it."""
    digest = put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=60, serve_deleted=False)
        await world.pull(hub, "web")
        upstream.manifests.clear()
        world.later(61)
        with pytest.raises(RegistryError, match="is not known here"):
            await world.sources.find_manifest(hub, "web", "latest")
        assert (await world.sources.find_manifest(hub, "web", digest)).manifest.digest == digest

    run(tmp_path, work)


# What is stored


def test_an_index_that_clients_only_look_at_is_stored_too(
    tmp_path: Path, upstream: HostileRegistry
):
    """harbor#19609: clients HEAD the index and GET only the child, so it never appeared."""
    child = put_image(upstream, LAYER, tag="")
    index = put_index(upstream, child)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        seen = await world.sources.find_manifest(hub, "web", "latest")  # what answers a HEAD
        assert seen.manifest.digest == index
        await world.sources.find_manifest(hub, "web", child)
        assert await world.metadata.find_manifest(hub, "web", index) is not None
        assert await world.metadata.find_manifest(hub, "web", "latest") is not None
        upstream.manifests.clear()
        await world.sources.find_manifest(hub, "web", "latest")

    run(tmp_path, work)


def test_only_the_platform_that_is_asked_for_is_fetched(tmp_path: Path, upstream: HostileRegistry):
    """zot#2997, #2254: all platforms were, in temporary copies."""
    amd64 = put_image(upstream, LAYER, tag="")
    arm64 = put_image(upstream, os.urandom(1000), tag="")
    put_index(upstream, amd64, arm64)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        await world.sources.find_manifest(hub, "web", "latest")
        await world.pull(hub, "web", amd64)
        await world.settled()
        assert upstream.requests("GET", arm64) == []
        assert len(upstream.requests("GET", "/blobs/")) == 2
        assert list((world.home / "partial").iterdir()) == []

    run(tmp_path, work)


def test_wrong_bytes_never_complete_an_answer_and_are_never_stored(
    tmp_path: Path, upstream: HostileRegistry
):
    """harbor#15735, #23911, nora#581: an HTML page with 200 was cached as a blob."""
    digest = upstream.put_blob(LAYER)
    page = b"<html>" + b"x" * (len(LAYER) - 6)
    upstream.fail("GET", "/blobs/", send(lambda data: page), times=1)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        with pytest.raises((BrokenBodyError, RegistryError), match="are not what"):
            await world.read_blob(hub, "web", digest)
        await world.settled()
        assert await world.metadata.find_blob(hub, digest) is None
        assert await world.read_blob(hub, "web", digest) == LAYER

    run(tmp_path, work)


def test_a_page_instead_of_a_manifest_is_not_stored_and_what_is_cached_is_served(
    tmp_path: Path, upstream: HostileRegistry
):
    digest = put_image(upstream, LAYER)
    page = b"<html>please log in</html>"

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=0)
        upstream.fail(
            "GET", "/manifests/", send(lambda data: page, Content_Type="text/html"), times=1
        )
        with pytest.raises(RegistryError) as caught:
            await world.sources.find_manifest(hub, "web", "latest")
        assert caught.value.status == 502
        world.later(20)
        await world.pull(hub, "web")
        upstream.fail("HEAD", "/manifests/", status(405))
        upstream.fail("GET", "/manifests/", send(lambda data: page, Content_Type="text/html"))
        found = await world.sources.find_manifest(hub, "web", "latest")
        assert found.manifest.digest == digest
        assert found.note.startswith("stale")

    run(tmp_path, work)


def test_a_manifest_that_is_not_what_was_asked_for_is_refused(
    tmp_path: Path, upstream: HostileRegistry
):
    digest = put_image(upstream, LAYER)
    upstream.fail("GET", "/manifests/", send(lambda data: data + b" "))

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        with pytest.raises(RegistryError) as caught:
            await world.sources.find_manifest(hub, "web", digest)
        assert caught.value.status == 502

    run(tmp_path, work)


# Transfers


def test_the_first_byte_is_sent_while_the_upstream_still_sends(
    tmp_path: Path, upstream: HostileRegistry
):
    """zot#3359, containerd#13682: nothing was sent until the copy was complete."""
    digest = upstream.put_blob(os.urandom(2 << 20))
    go_on = threading.Event()

    def slow(handler: Handler) -> bool:
        found = handler.content()
        assert found is not None
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(found[1])))
        handler.end_headers()
        handler.wfile.write(found[1][:100_000])
        handler.wfile.flush()
        go_on.wait(20)
        handler.wfile.write(found[1][100_000:])
        return True

    upstream.fail("GET", "/blobs/", slow)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        growing = await world.sources.open_blob(hub, "web", digest)
        assert isinstance(growing, Growing)
        assert growing.size == 2 << 20
        assert 0 < await growing.wait(0) <= 100_000
        go_on.set()
        assert await read_growing(growing) == upstream.blobs[digest]

    run(tmp_path, work)


def test_a_cut_transfer_is_resumed_by_range_without_the_client_noticing(
    tmp_path: Path, upstream: HostileRegistry
):
    """harbor#23600: no retry, no resume."""
    digest = upstream.put_blob(LAYER)
    upstream.fail("GET", "/blobs/", cut_after(100_000), times=1)
    upstream.fail("GET", "/blobs/", cut_after(50_000), times=1)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        assert await world.read_blob(hub, "web", digest) == LAYER

    run(tmp_path, work)
    ranges = [seen.headers.get("range") for seen in upstream.requests("GET", "/blobs/")]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_server_that_ignores_ranges_is_resumed_too(tmp_path: Path, upstream: HostileRegistry):
    digest = upstream.put_blob(LAYER)
    upstream.fail("GET", "/blobs/", cut_after(100_000), times=1)
    upstream.fail("GET", "/blobs/", send(lambda data: data))

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        assert await world.read_blob(hub, "web", digest) == LAYER

    run(tmp_path, work)


def test_a_redirect_is_followed_without_our_credentials_and_asked_for_again_each_time(
    tmp_path: Path, upstream: HostileRegistry
):
    """docker-registry-proxy#26, #33: signed URLs were cached, and Authorization went with them."""
    digest = upstream.put_blob(LAYER)
    with hostile_registry() as bucket:
        bucket.blobs = upstream.blobs

        def redirect(handler: Handler) -> bool:
            name = handler.path.rsplit("/", 1)[-1]
            handler.reply(307, Location=f"http://{bucket.host}/blobs/{name}?signature=once")
            return True

        def ask(handler: Handler) -> bool:
            if handler.headers.get("Authorization"):
                return False
            handler.reply(401, WWW_Authenticate='Basic realm="x"')
            return True

        upstream.fail("GET", "/v2/web/", ask, times=1)
        upstream.fail("GET", "/blobs/", redirect)

        async def work(world: World) -> None:
            hub = await world.remote("hub", upstream, username="ci", password="sealed")
            world.passwords["hub"] = "secret"
            assert await world.read_blob(hub, "web", digest) == LAYER
            await world.settled()
            await world.metadata.unlink_blob(hub, "web", digest, "owner")
            other = await world.remote("other", upstream)
            await world.read_blob(other, "web", digest)

        run(tmp_path, work)
        assert "authorization" in upstream.requests("GET", "/blobs/")[-2].headers
        assert bucket.seen
        assert all("authorization" not in seen.headers for seen in bucket.seen)


def test_an_upstream_that_stops_sending_is_given_up(
    tmp_path: Path, upstream: HostileRegistry, monkeypatch: pytest.MonkeyPatch
):
    from hakobune.registry import upstream_client

    monkeypatch.setattr(upstream_client, "STALL_S", 0.3)
    digest = upstream.put_blob(LAYER)
    upstream.fail("GET", "/blobs/", stall_after(100_000), times=1)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        assert await world.read_blob(hub, "web", digest) == LAYER

    run(tmp_path, work)
    assert upstream.requests("GET", "/blobs/")[1].headers["range"] == "bytes=100000-"


def test_an_upstream_that_is_silent_does_not_hold_up_the_others(
    tmp_path: Path, upstream: HostileRegistry
):
    put_image(upstream, LAYER)

    def silent(handler: Handler) -> bool:
        upstream.ended.wait(40)
        handler.cut()
        return True

    upstream.fail("GET", "^/v2/slow/", silent)

    async def work(world: World) -> None:
        slow = await world.remote("slow", f"http://{upstream.host}/slow")
        fine = await world.remote("fine", upstream)
        asked = [
            asyncio.create_task(world.sources.find_manifest(slow, "web", f"v{number}"))
            for number in range(60)
        ]
        await asyncio.sleep(0.3)
        async with asyncio.timeout(12):  # sooner than the first of these is given up
            await world.pull(fine, "web")
        assert 0 < len(upstream.requests("GET", "^/v2/slow/")) <= 12
        upstream.ended.set()
        await asyncio.gather(*asked, return_exceptions=True)

    run(tmp_path, work)


def test_a_disk_without_room_stores_nothing_and_says_so(
    tmp_path: Path, upstream: HostileRegistry, monkeypatch: pytest.MonkeyPatch
):
    digest = upstream.put_blob(LAYER)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 10**6, 1, 1, 1, 1, 1, 0, 255)))  # fmt: skip

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        with pytest.raises(RegistryError) as caught:
            await world.sources.open_blob(hub, "web", digest)
        assert caught.value.code == "INSUFFICIENT_STORAGE"

    run(tmp_path, work)


# Credentials


def test_credentials_are_opened_when_the_upstream_asks_and_go_nowhere_else(
    tmp_path: Path, upstream: HostileRegistry
):
    put_image(upstream, LAYER)

    def ask(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == "Basic Y2k6c2VjcmV0":
            return False
        handler.reply(401, WWW_Authenticate='Basic realm="x"')
        return True

    async def work(world: World) -> None:
        world.passwords["hub"] = "secret"
        hub = await world.remote("hub", upstream, username="ci", password="sealed")
        await world.pull(hub, "web")
        assert world.opened == []
        upstream.fail("GET", ".*", ask)
        upstream.fail("HEAD", ".*", ask)
        await world.pull(hub, "other")
        assert world.opened == ["hub"]

    run(tmp_path, work)


def test_a_wrong_password_is_the_repositorys_fault_and_not_the_clients(
    tmp_path: Path, upstream: HostileRegistry
):
    upstream.fail("GET", ".*", status(401, WWW_Authenticate='Basic realm="x"'))

    async def work(world: World) -> None:
        world.passwords["hub"] = "secret-9"
        hub = await world.remote("hub", upstream, username="ci", password="sealed")
        with pytest.raises(RegistryError) as caught:
            await world.sources.find_manifest(hub, "web", "latest")
        assert caught.value.status == 502
        assert "'ci'" in caught.value.message
        assert "secret-9" not in caught.value.message

    run(tmp_path, work)


def test_an_upstream_behind_tls_is_trusted_by_its_hosts_own_authority_alone(tmp_path: Path):
    tls = make_tls(tmp_path / "tls")
    with hostile_registry((tls.certificate, tls.key)) as upstream:
        put_image(upstream, LAYER)

        async def work(world: World) -> None:
            strange = await world.remote("strange", f"https://{upstream.host}")
            with pytest.raises(
                RegistryError, match="authority that this machine does not know"
            ) as caught:
                await world.sources.find_manifest(strange, "web", "latest")
            assert caught.value.status == 504
            folder = world.home / "certs.d" / upstream.host
            folder.mkdir(parents=True)
            (folder / "ca.crt").write_bytes(tls.authority.read_bytes())
            await world.pull(await world.remote("known", f"https://{upstream.host}"), "web")

        run(tmp_path / "home", work)


def test_a_real_registry_with_a_token_server_lets_in_whom_the_repository_names(tmp_path: Path):
    image = HostileRegistry()
    digest = put_image(image, LAYER)
    rights = {USER: frozenset({"pull", "push"})}
    with (
        token_server(tmp_path / "tokens", rights) as (realm, certificate),
        real_registry(tmp_path / "real", token_realm=realm, token_certificate=certificate) as host,
    ):
        _push(host, realm, image, digest)

        async def work(world: World) -> None:
            world.passwords["private"] = PASSWORD
            private = await world.remote("private", f"http://{host}", username=USER, password="x")
            assert await world.pull(private, "shop/web") == digest
            nobody = await world.remote("nobody", f"http://{host}")
            with pytest.raises(RegistryError) as caught:
                await world.sources.find_manifest(nobody, "shop/web", "latest")
            assert caught.value.status == 404
            blob = json.loads(image.manifests[digest][1])["layers"][0]["digest"]
            with pytest.raises(RegistryError):
                await world.sources.open_blob(nobody, "shop/web", blob)

        run(tmp_path / "home", work)


def _push(host: str, realm: str, image: HostileRegistry, digest: str) -> None:
    """An image to `shop/web` of a registry with tokens."""
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with RegistryHttp(realm.removesuffix("/token"), authorization=f"Basic {basic}") as tokens:
        asked = [("service", "test"), ("scope", "repository:shop/web:pull,push")]
        token = tokens.send("GET", "/token", parameters=asked).document["token"]
    with RegistryHttp(f"http://{host}", authorization=f"Bearer {token}") as client:
        for blob, data in image.blobs.items():
            begun = client.send("POST", "/v2/shop/web/blobs/uploads/").header("location")
            done = client.send("PUT", begun, data, parameters=[("digest", blob)])
            assert done.status == 201, done
        media_type, body = image.manifests[digest]
        path = "/v2/shop/web/manifests/latest"
        assert client.send("PUT", path, body, Content_Type=media_type).status == 201


# Lists


def test_tags_are_the_upstreams_kept_for_the_ttl_and_served_when_it_fails(
    tmp_path: Path, upstream: HostileRegistry
):
    pages = {
        "": (b'{"name":"web","tags":["b","a"]}', '</v2/web/tags/list?last=b>; rel="next"'),
        "last=b": (b'{"name":"web","tags":["c","not a tag"]}', ""),
    }

    def tags(handler: Handler) -> bool:
        body, link = pages[handler.path.partition("?")[2]]
        handler.reply(200, body, **({"Link": link} if link else {}))
        return True

    upstream.fail("GET", "/tags/list", tags, times=2)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream, tag_ttl_s=60)
        for _ in range(2):
            assert (await world.sources.list_tags(hub, "web")).names == ("a", "b", "c")
        assert len(upstream.requests("GET", "/tags/list")) == 2
        upstream.fail("GET", "/tags/list", status(503))
        world.later(61)
        stale = await world.sources.list_tags(hub, "web")
        assert stale.names == ("a", "b", "c")
        assert stale.note.startswith("stale")

    run(tmp_path, work)


def test_the_tags_that_are_cached_are_listed_if_the_upstream_lists_none(
    tmp_path: Path, upstream: HostileRegistry
):
    put_image(upstream, LAYER)
    upstream.fail("GET", "/tags/list", status(500))

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        await world.pull(hub, "web")
        found = await world.sources.list_tags(hub, "web")
        assert found.names == ("latest",)
        assert "only the tags that are cached here" in found.note

    run(tmp_path, work)


def test_referrers_are_the_upstreams_and_their_content_is_fetched_like_all_other(
    tmp_path: Path, upstream: HostileRegistry
):
    """harbor#20808, #22592: signatures were not proxied."""
    image = put_image(upstream, LAYER)
    signature = put_image(upstream, b"signature", tag="", subject=image)
    media_type, body = upstream.manifests[signature]
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": media_type,
                "digest": signature,
                "size": len(body),
                "artifactType": "application/vnd.test.signature",
                "annotations": {"who": "me"},
            }
        ],
    }
    upstream.fail("GET", "/referrers/", status(200, json.dumps(index).encode()))

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        for _ in range(2):
            found = await world.sources.referrers(hub, "web", image)
            assert [dict(item) for item in found.descriptors] == index["manifests"]
        assert len(upstream.requests("GET", "/referrers/")) == 1
        other = await world.sources.referrers(hub, "web", image, "application/other")
        assert other.descriptors == ()
        assert await world.pull(hub, "web", signature) == signature

    run(tmp_path, work)


def test_referrers_in_the_fallback_tag_are_found_where_the_upstream_has_no_api(
    tmp_path: Path, upstream: HostileRegistry
):
    image = put_image(upstream, LAYER)
    signature = put_image(upstream, b"signature", tag="", subject=image)
    put_index(upstream, signature, tag=image.replace(":", "-"))

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        found = await world.sources.referrers(hub, "web", image)
        assert [item["digest"] for item in found.descriptors] == [signature]

    run(tmp_path, work)


# Names


def test_the_limits_that_the_upstream_tells_are_kept_for_the_metrics(
    tmp_path: Path, upstream: HostileRegistry
):
    put_image(upstream, LAYER)

    def limited(handler: Handler) -> bool:
        media_type, body = handler.registry.manifests["latest"]
        handler.reply(
            200,
            body,
            Content_Type=media_type,
            ratelimit_limit="100;w=21600",
            ratelimit_remaining="76;w=21600",
            docker_ratelimit_source="192.0.2.1",
        )
        return True

    upstream.fail("GET", "/manifests/latest", limited)

    async def work(world: World) -> None:
        hub = await world.remote("hub", upstream)
        await world.sources.find_manifest(hub, "web", "latest")
        limit = world.sources.upstreams.rate_limits()[upstream.host]
        assert (limit.limit, limit.window_s, limit.remaining) == (100, 21600, 76)
        assert limit.source == "192.0.2.1"

    run(tmp_path, work)


def test_a_prefix_stands_before_every_image(tmp_path: Path, upstream: HostileRegistry):
    put_image(upstream, LAYER)

    async def work(world: World) -> None:
        hub = await world.remote("hub", f"http://{upstream.host}/team")
        await world.pull(hub, "web")
        assert upstream.requests("GET", "^/v2/team/web/manifests/latest$")

    run(tmp_path, work)


# Another repository of this installation


def test_a_repository_here_is_an_upstream_without_http_and_what_was_pulled_outlives_it(
    tmp_path: Path,
):
    async def work(world: World) -> None:
        base = await world.standard("base")
        digest = await world.push(base, "web", "latest", LAYER)
        copy = await world.remote("copy", base.resource)
        assert await world.pull(copy, "web") == digest
        found = await world.sources.find_manifest(copy, "web", "latest")
        assert found.fresh_s is None
        new = await world.push(base, "web", "latest", b"new")
        assert await world.pull(copy, "web") == new
        assert (await world.sources.list_tags(copy, "web")).names == ("latest",)
        await world.metadata.delete_repository(base, "owner")
        assert await world.pull(copy, "web", digest) == digest

    run(tmp_path, work)


def test_our_own_address_is_the_repository_here(tmp_path: Path):
    async def work(world: World) -> None:
        base = await world.standard("base")
        await world.push(base, "team/web", "latest", LAYER)
        copy = await world.remote("copy", "http://localhost:8080/demo/base/team")
        await world.pull(copy, "web")
        cloud = await world.remote("cloud", "https://eu-docker.pkg.dev/demo/base")
        await world.pull(cloud, "team/web")

    run(tmp_path, work, own_hosts=("localhost:8080",))


def test_a_chain_of_caches_is_one_transfer(tmp_path: Path, upstream: HostileRegistry):
    put_image(upstream, LAYER)

    async def work(world: World) -> None:
        far = await world.remote("far", upstream)
        near = await world.remote("near", far.resource)
        for _ in range(2):
            await world.pull(near, "web")
            await world.settled()
        layer = next(d for d, data in upstream.blobs.items() if data == LAYER)
        for repository in (far, near):
            assert isinstance(await world.sources.open_blob(repository, "web", layer), StoredBlob)

    run(tmp_path, work)
    assert len(upstream.requests("GET", "/blobs/")) == 2


def test_upstreams_in_circles_are_told_of_and_end(tmp_path: Path):
    async def work(world: World) -> None:
        one = await world.remote("one", "projects/demo/locations/local/repositories/other")
        await world.remote("other", one.resource)
        for ask in (
            world.sources.find_manifest(one, "web", "latest"),
            world.sources.open_blob(one, "web", "sha256:" + "0" * 64),
            world.sources.list_tags(one, "web"),
        ):
            with pytest.raises(RegistryError, match="in circles"):
                await ask

    run(tmp_path, work)


def test_circles_that_are_asked_from_both_ends_at_once_do_not_wait_for_each_other(tmp_path: Path):
    async def work(world: World) -> None:
        one = await world.remote("one", "projects/demo/locations/local/repositories/other")
        other = await world.remote("other", one.resource)
        asked = [
            sources.find_manifest(repository, "web", "latest")
            for repository in (one, other) * 3
            for sources in (world.sources, *world.others)
        ]
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, RegistryError) for answer in answers)

    run(tmp_path, work, workers=2)
