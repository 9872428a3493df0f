"""What remote and virtual repositories keep, in PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hakobune.registry.errors import RegistryError
from tests.hostile_registry import hostile_registry, status
from tests.postgresql_cluster import running_cluster
from tests.remote_world import World, put_image, put_index, run


def test_remote_and_virtual_repositories_work_on_postgresql(tmp_path: Path):
    with hostile_registry() as upstream, running_cluster() as cluster:
        child = put_image(upstream, os.urandom(100_000), tag="")
        index = put_index(upstream, child)
        signature = put_image(upstream, b"signature", tag="", subject=index)
        put_index(upstream, signature, tag=index.replace(":", "-"))
        upstream.fail(
            "GET", "/tags/list", status(200, b'{"name":"web","tags":["latest"]}'), times=1
        )

        async def work(world: World) -> None:
            own = await world.standard("own")
            hub = await world.remote("hub", upstream, tag_ttl_s=60)
            everything = await world.virtual("all", own, hub)
            for _ in range(2):
                found = await world.sources.find_manifest(everything, "web", "latest")
                assert found.manifest.digest == index
                assert await world.pull(everything, "web", child) == child
                assert (await world.sources.list_tags(everything, "web")).names == ("latest",)
                referrers = await world.sources.referrers(hub, "web", index)
                assert [item["digest"] for item in referrers.descriptors] == [signature]
                with pytest.raises(RegistryError):
                    await world.sources.find_manifest(everything, "web", "v9")
            world.later(61)
            await world.sources.find_manifest(everything, "web", "latest")
            assert len(upstream.requests("HEAD", "/manifests/latest")) == 1
            await world.metadata.delete_repository(hub, "owner")

        run(tmp_path, work, database=cluster.new_database())
