"""The Artifact Registry API's parts over an installation: its stores, its secrets, and how an upstream is tried."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from hakobune.api.artifacts_context import Registry, UpstreamCheck
from hakobune.api.registry_state import RegistryState
from hakobune.iam.master_key import load_master_key, master_key_path
from hakobune.iam.secret_box import SecretBox
from hakobune.registry.artifacts_store import ArtifactsStore
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Repository
from hakobune.registry.rows import now_us
from hakobune.registry.secret_store import SecretStore
from hakobune.registry.storages import open_storage
from hakobune.registry.upstream_password import open_password
from hakobune.registry.upstream_probe import check_upstream
from hakobune.settings import Settings

DOCKER_HUB = "DOCKER_HUB"


def open_artifacts(state: RegistryState, settings: Settings, *, env: Mapping[str, str]) -> Registry:
    """The API's parts.

    Args:
        env: where proxies and certificates for upstreams are named, and the keys of S3.
    """
    host = f"{settings.host}:{settings.port}"
    box = SecretBox(load_master_key(master_key_path(settings.home)))
    return Registry(
        metadata=state.metadata,
        store=ArtifactsStore(state.sql, now_us),
        secrets=SecretStore(state.sql, box, now_us),
        box=box,
        iam=state.iam.store,
        check_upstream=upstream_check(
            state.metadata, box, env=env, home=settings.home, own_hosts=settings.registry_hosts
        ),
        open_storage=cache(lambda: open_storage(settings, env)),
        staging=settings.registry_files / "uploads",
        host=host,
    )


def upstream_check(
    metadata: Metadata,
    box: SecretBox,
    *,
    env: Mapping[str, str],
    home: Path,
    own_hosts: tuple[str, ...],
) -> UpstreamCheck:
    """Whether the upstream of a new remote repository is one. Docker Hub is asked only with credentials."""

    async def check(repository: Repository) -> None:
        remote = repository.remote
        assert remote is not None  # the caller's business
        if remote.upstream == DOCKER_HUB and not remote.username:
            return
        password = open_password(box, repository.resource, remote.password)
        await check_upstream(
            metadata, remote, password=password, env=env, home=home, own_hosts=own_hosts
        )

    return check
