"""Virtual repositories: the first that has it wins, nothing is merged, an outage above lets nothing through."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.registry.errors import RegistryError
from tests.hostile_registry import HostileRegistry, hostile_registry, status
from tests.remote_world import World, put_image, put_index, run

LAYER = os.urandom(100_000)


@pytest.fixture
def upstream() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        yield registry


@pytest.fixture
def second() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        yield registry


def test_the_repository_with_the_greater_priority_wins_and_shadows_what_is_below(
    tmp_path: Path, upstream: HostileRegistry
):
    foreign = put_image(upstream, b"foreign")

    async def work(world: World) -> None:
        own = await world.standard("own")
        hub = await world.remote("hub", upstream)
        mine = await world.push(own, "web", "latest", LAYER)
        assert await world.pull(await world.virtual("all", own, hub), "web") == mine
        assert upstream.seen == []
        assert await world.pull(await world.virtual("other", hub, own), "web") == foreign

    run(tmp_path, work)


def test_what_the_first_does_not_have_comes_from_the_next(
    tmp_path: Path, upstream: HostileRegistry
):
    foreign = put_image(upstream, LAYER)

    async def work(world: World) -> None:
        own = await world.standard("own")
        hub = await world.remote("hub", upstream)
        everything = await world.virtual("all", own, hub)
        found = await world.sources.find_manifest(everything, "web", "latest")
        assert (found.manifest.digest, found.repository) == (foreign, hub)
        assert await world.pull(everything, "web") == foreign
        with pytest.raises(RegistryError) as caught:
            await world.sources.find_manifest(everything, "web", "v9")
        assert caught.value.code == "MANIFEST_UNKNOWN"

    run(tmp_path, work)


def test_a_failing_remote_above_a_hit_is_an_error(tmp_path: Path, upstream: HostileRegistry):
    """Else an outage of the trusted upstream would let another's image of the same name through."""
    upstream.fail("GET", ".*", status(503))

    async def work(world: World) -> None:
        trusted = await world.remote("trusted", upstream)
        own = await world.standard("own")
        await world.push(own, "web", "latest", LAYER)
        strict = await world.virtual("strict", trusted, own)
        with pytest.raises(RegistryError) as caught:
            await world.sources.find_manifest(strict, "web", "latest")
        assert caught.value.status == 502
        below = await world.virtual("below", own, trusted)
        await world.pull(below, "web")

    run(tmp_path, work)


def test_a_failing_remote_is_skipped_and_told_of_where_its_policy_says_so(
    tmp_path: Path, upstream: HostileRegistry
):
    upstream.fail("GET", ".*", status(503))

    async def work(world: World) -> None:
        far = await world.remote("far", upstream)
        own = await world.standard("own")
        mine = await world.push(own, "web", "latest", LAYER)
        lenient = await world.virtual("lenient", far, own, skip_unavailable=True)
        found = await world.sources.find_manifest(lenient, "web", "latest")
        assert found.manifest.digest == mine
        assert found.note.startswith("skipped demo/far: ")
        assert found.fresh_s == 0.0
        assert (await world.sources.list_tags(lenient, "web")).names == ("latest",)

    run(tmp_path, work)


def test_an_answer_is_fresh_as_long_as_what_the_repositories_above_do_not_have(
    tmp_path: Path, upstream: HostileRegistry
):
    async def work(world: World) -> None:
        far = await world.remote("far", upstream, negative_ttl_s=30)
        own = await world.standard("own")
        await world.push(own, "web", "latest", LAYER)
        found = await world.sources.find_manifest(
            await world.virtual("all", far, own), "web", "latest"
        )
        assert found.fresh_s == 30
        alone = await world.virtual("alone", own)
        assert (await world.sources.find_manifest(alone, "web", "latest")).fresh_s is None

    run(tmp_path, work)


def test_children_and_blobs_are_asked_of_the_source_of_their_parent_alone(
    tmp_path: Path, upstream: HostileRegistry, second: HostileRegistry
):
    child = put_image(second, LAYER, tag="")
    index = put_index(second, child)

    async def work(world: World) -> None:
        first = await world.remote("first", upstream)
        other = await world.remote("other", second)
        everything = await world.virtual("all", first, other)
        assert (
            await world.sources.find_manifest(everything, "web", "latest")
        ).manifest.digest == index
        asked = len(upstream.seen)
        await world.pull(everything, "web", child)
        assert len(upstream.seen) == asked

    run(tmp_path, work)


def test_a_digest_that_nobody_has_named_is_looked_for_everywhere_even_past_a_failure(
    tmp_path: Path, upstream: HostileRegistry, second: HostileRegistry
):
    upstream.fail("GET", ".*", status(503))
    digest = put_image(second, LAYER)

    async def work(world: World) -> None:
        first = await world.remote("first", upstream)
        other = await world.remote("other", second)
        everything = await world.virtual("all", first, other)
        assert await world.pull(everything, "web", digest) == digest
        with pytest.raises(RegistryError) as caught:
            await world.sources.find_manifest(everything, "web", "sha256:" + "0" * 64)
        assert caught.value.status == 502

    run(tmp_path, work)


def test_tags_and_referrers_are_the_union(tmp_path: Path, upstream: HostileRegistry):
    image = put_image(upstream, LAYER, tag="v2")
    signature = put_image(upstream, b"signature", tag="", subject=image)
    put_index(upstream, signature, tag=image.replace(":", "-"))
    upstream.fail("GET", "/tags/list", status(200, b'{"name":"web","tags":["v2","v1"]}'))

    async def work(world: World) -> None:
        own = await world.standard("own")
        hub = await world.remote("hub", upstream)
        await world.push(own, "web", "v1", b"mine")
        await world.push(own, "web", "v0", b"mine")
        everything = await world.virtual("all", own, hub)
        assert (await world.sources.list_tags(everything, "web")).names == ("v0", "v1", "v2")
        found = await world.sources.referrers(everything, "web", image)
        assert [item["digest"] for item in found.descriptors] == [signature]
        with pytest.raises(RegistryError, match="is not known"):
            await world.sources.list_tags(await world.virtual("small", own), "other")

    run(tmp_path, work)


def test_virtual_repositories_may_stand_behind_virtual_ones_even_in_circles(
    tmp_path: Path, upstream: HostileRegistry
):
    digest = put_image(upstream, LAYER)

    async def work(world: World) -> None:
        own = await world.standard("own")
        hub = await world.remote("hub", upstream)
        inner = await world.virtual("inner", hub)
        outer = await world.virtual("outer", own, inner)
        await world.metadata.update_repository(
            _with_policies(inner, outer.resource, hub.resource), "owner"
        )
        assert await world.pull(outer, "web") == digest

    run(tmp_path, work)


def test_a_repository_that_is_gone_stands_in_the_way_in_words(tmp_path: Path):
    async def work(world: World) -> None:
        own = await world.standard("own")
        gone = await world.standard("gone")
        await world.push(own, "web", "latest", LAYER)
        everything = await world.virtual("all", gone, own)
        await world.metadata.delete_repository(gone, "owner")
        with pytest.raises(RegistryError, match="which is not there") as caught:
            await world.sources.find_manifest(everything, "web", "latest")
        assert caught.value.status == 503

    run(tmp_path, work)


def _with_policies(repository, *resources):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    from hakobune.registry.repository import UpstreamPolicy

    return replace(
        repository,
        upstream_policies=tuple(
            UpstreamPolicy(id=f"p{n}", repository=resource, priority=100 - n)
            for n, resource in enumerate(resources)
        ),
    )
