"""The Artifact Registry API's parts over an installation: its stores, its secrets, and how an upstream is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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
from hakobune.registry.upstream import RegistryUpstream, parse_upstream
from hakobune.registry.upstream_errors import AbsentError, UpstreamError
from hakobune.registry.upstream_password import open_password
from hakobune.serving.errors import InvalidArgumentError
from hakobune.settings import Settings

_FIELD = "remoteRepositoryConfig"


def open_artifacts(state: RegistryState, settings: Settings, *, env: Mapping[str, str]) -> Registry:
    """The API's parts.

    Args:
        env: where proxies and certificates for upstreams are named.
    """
    box = SecretBox(load_master_key(master_key_path(settings.home)))
    return Registry(
        metadata=state.metadata,
        store=ArtifactsStore(state.sql, now_us),
        secrets=SecretStore(state.sql, box, now_us),
        box=box,
        iam=state.iam.store,
        check_upstream=upstream_check(state.metadata, box, env=env, home=settings.home),
        host=f"{settings.host}:{settings.port}",
    )


def upstream_check(
    metadata: Metadata, box: SecretBox, *, env: Mapping[str, str], home: Path
) -> UpstreamCheck:
    """Whether the upstream of a new remote repository is one. Docker Hub is asked only with credentials."""

    async def check(repository: Repository) -> None:
        remote = repository.remote
        assert remote is not None  # the caller's business
        upstream = parse_upstream(remote.upstream)
        if not isinstance(upstream, RegistryUpstream):
            found = await metadata.find_repository(upstream.project, upstream.repository_id)
            if found is not None:
                return
            if upstream.otherwise is None:
                raise InvalidArgumentError(
                    f"there is no repository {remote.upstream}", field=f"{_FIELD}.commonRepository"
                )
            upstream = upstream.otherwise
        if upstream.is_hub and not remote.username:
            return
        await asyncio.to_thread(_ping, upstream, repository)

    def _ping(upstream: RegistryUpstream, repository: Repository) -> None:
        from hakobune.registry.upstream_client import (
            UpstreamClient,
        )  # an HTTP client: rarely needed

        remote = repository.remote
        assert remote is not None  # as above
        client = UpstreamClient(
            upstream,
            user=remote.username,
            password=lambda: open_password(box, repository.resource, remote.password),
            env=env,
            home=home,
        )
        try:
            client.ping()
        except (AbsentError, UpstreamError) as error:
            raise InvalidArgumentError(
                f"{upstream} does not answer as a registry",
                field=_FIELD,
                why=str(error),
                fix="check the URL and the credentials, or set disableUpstreamValidation (--disable-remote-validation)",
            ) from error
        finally:
            client.close()

    return check
