"""What may become the upstream of a remote repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.registry.errors import ResourceError
from hakobune.registry.repository import RemoteConfig
from hakobune.registry.upstream_probe import check_upstream
from tests.hostile_registry import Handler, HostileRegistry, hostile_registry, status
from tests.remote_world import World, run


@pytest.fixture
def upstream() -> Iterator[HostileRegistry]:
    with hostile_registry() as registry:
        yield registry


async def check(world: World, upstream: str, *, password: str = "", **config: object) -> None:
    remote = RemoteConfig(upstream=upstream, **config)  # type: ignore[arg-type]
    await check_upstream(world.metadata, remote, password=password, env={}, home=world.home)


def basic(handler: Handler) -> bool:
    if handler.headers.get("Authorization") == "Basic Y2k6c2VjcmV0":
        return False
    handler.reply(401, WWW_Authenticate='Basic realm="x"')
    return True


def test_a_registry_is_one_also_if_it_wants_to_know_who_asks(
    tmp_path: Path, upstream: HostileRegistry
):
    async def work(world: World) -> None:
        await check(world, f"http://{upstream.host}")
        upstream.fail("GET", "/v2/", basic)
        await check(world, f"http://{upstream.host}")
        await check(world, f"http://{upstream.host}", username="ci", password="secret")
        with pytest.raises(ResourceError) as caught:
            await check(world, f"http://{upstream.host}", username="ci", password="wrong-9")
        assert caught.value.status == "FAILED_PRECONDITION"
        assert "wrong-9" not in str(caught.value)

    run(tmp_path, work)


def test_what_is_no_registry_is_refused_in_words_unless_nobody_wants_to_know(
    tmp_path: Path, upstream: HostileRegistry
):
    upstream.fail("GET", "/v2/", status(404))

    async def work(world: World) -> None:
        with pytest.raises(ResourceError, match="does not answer as a registry"):
            await check(world, f"http://{upstream.host}")
        with pytest.raises(ResourceError, match="does not answer as a registry"):
            await check(world, "http://127.0.0.1:1")
        await check(world, "http://127.0.0.1:1", disable_upstream_validation=True)
        with pytest.raises(ResourceError) as caught:
            await check(world, "ftp://x", disable_upstream_validation=True)
        assert caught.value.status == "INVALID_ARGUMENT"

    run(tmp_path, work)


def test_a_repository_here_must_be_there(tmp_path: Path):
    async def work(world: World) -> None:
        base = await world.standard("base")
        await check(world, base.resource)
        with pytest.raises(ResourceError, match="is not a repository of this installation"):
            await check(world, "projects/demo/locations/local/repositories/none")

    run(tmp_path, work)
