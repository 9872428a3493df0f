"""docker pulls `nginx` from "Docker Hub" through its `registry-mirrors`: our remote repository in front of an upstream."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hakobune.iam.opened import open_iam
from hakobune.iam.policy import Binding, Policy
from hakobune.oci.manifest import Image
from hakobune.oci.store import Store
from hakobune.registry.generation import Generation
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Mode, RemoteConfig, Repository
from hakobune.state.sql import open_sql
from tests.e2e.docker_daemon import docker_daemon
from tests.hostile_registry import HostileRegistry, hostile_registry, status
from tests.image_maker import an_image
from tests.registry_server import HakoRegistry, hako_registry

pytestmark = pytest.mark.needs_root


def test_docker_pulls_official_images_through_a_mirror_and_keeps_doing_so_when_the_hub_limits(
    tmp_path: Path,
):
    """zot#2985: a mirror has no path, so its whole host name is the repository; docker asks for tokens in its own words."""
    with hostile_registry() as hub:
        digest = _publish(hub, Store(tmp_path / "store"), "latest")
        mirrors = {"HAKO_REGISTRY_MIRRORS": "127.0.0.1=demo/hub"}
        with hako_registry(environment=mirrors) as registry:
            asyncio.run(_open_to_all(registry, hub))
            options = (f"--registry-mirror=http://{registry.host}",)
            with docker_daemon(options=options) as daemon:
                daemon.docker("pull", "nginx")
                found = daemon.docker("image", "inspect", "-f", "{{.RepoDigests}}", "nginx")
                assert digest in found
                daemon.docker("image", "rm", "nginx")
                for method in ("GET", "HEAD"):
                    hub.fail(method, ".*", status(429))
                daemon.docker("pull", "nginx")
    assert hub.requests("GET", "^/v2/nginx/manifests/") == []
    assert len(hub.requests("GET", "^/v2/library/nginx/manifests/")) == 1


def _publish(hub: HostileRegistry, store: Store, tag: str) -> str:
    image: Image = an_image(store, "web:1", content=b"page")
    for blob in (image.manifest.config, *image.manifest.layers):
        assert hub.put_blob(store.read_blob(blob.digest)) == str(blob.digest)
    return hub.put_manifest(image.manifest.media_type, image.raw, tag)


async def _open_to_all(registry: HakoRegistry, hub: HostileRegistry) -> None:
    """A remote repository that everybody may read."""
    sql = await open_sql(f"sqlite:///{registry.home}/registry/meta.db")
    generation = Generation(registry.home / "registry/generation")
    try:
        made = await Metadata(sql, generation).create_repository(
            Repository(
                project="demo",
                location="local",
                name="hub",
                mode=Mode.REMOTE,
                remote=RemoteConfig(upstream=f"http://{hub.host}"),
            ),
            "owner",
        )
        iam = open_iam(registry.home, sql, changed=generation.bump)
        reader = Binding(role="roles/artifactregistry.reader", members=("allUsers",))
        policy = Policy(bindings=(reader,))
        await iam.store.policies.set(made.resource, policy, etag="", actor="owner")
    finally:
        await sql.close()
        generation.close()
