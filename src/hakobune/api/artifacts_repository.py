"""A repository between the wire and the registry: what each field of the one is in the other (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

from msgspec.structs import replace

from hakobune.api.artifacts_documents import (
    CleanupPolicy,
    CommonRemoteRepository,
    DockerRepository,
    DockerRepositoryConfig,
    EnablementState,
    Format,
    Mode,
    PublicRepository,
    RemoteRepositoryConfig,
    Repository,
    UpstreamCredentials,
    UpstreamPolicy,
    UsernamePasswordCredentials,
    VirtualRepositoryConfig,
    VulnerabilityScanningConfig,
)
from hakobune.api.artifacts_names import RepositoryName
from hakobune.registry import repository as rows
from hakobune.registry.upstream import UpstreamConfigError, parse_upstream
from hakobune.serving.document import (
    decode_document,
    encode_document,
    read_document,
    write_document,
)
from hakobune.serving.errors import InvalidArgumentError

# What Artifact Registry has no field for is a label, so that every client can set it.
TAG_TTL = "hako-tag-ttl-seconds"
NEGATIVE_TTL = "hako-negative-ttl-seconds"
SERVE_DELETED = "hako-serve-deleted"
SIZE_CAP = "hako-size-cap-mib"
SKIP_UNAVAILABLE = "hako-skip-unavailable"

_MODES = {
    rows.Mode.STANDARD: Mode.STANDARD_REPOSITORY,
    rows.Mode.REMOTE: Mode.REMOTE_REPOSITORY,
    rows.Mode.VIRTUAL: Mode.VIRTUAL_REPOSITORY,
}
_STORED_MODES = {wire: stored for stored, wire in _MODES.items()}


def timestamp(microseconds: int) -> str:
    """RFC 3339 in UTC; empty for never."""
    if not microseconds:
        return ""
    at = datetime.fromtimestamp(microseconds / 1_000_000, UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_wire(stored: rows.Repository, *, size_bytes: int, registry_host: str) -> Repository:
    """The document of a stored repository.

    Args:
        registry_host: `HOST:PORT` under which images are pushed and pulled.
    """
    scanning = stored.extra.get("vulnerabilityScanningConfig")
    return Repository(
        name=stored.resource,
        format=Format.DOCKER,
        mode=_MODES[stored.mode],
        description=stored.description,
        labels=dict(stored.labels),
        docker_config=_docker_config(stored),
        virtual_repository_config=_virtual_config(stored),
        remote_repository_config=_remote_config(stored.remote),
        cleanup_policies={
            key: read_document(policy, CleanupPolicy) for key, policy in stored.cleanup_policies.items()
        },
        cleanup_policy_dry_run=stored.cleanup_dry_run,
        vulnerability_scanning_config=None if scanning is None else _scanning_config(scanning),
        create_time=timestamp(stored.created_at),
        update_time=timestamp(stored.updated_at),
        size_bytes=str(size_bytes),
        registry_uri=f"{registry_host}/{stored.path}",
    )  # fmt: skip


def to_stored(document: Repository, before: rows.Repository | None = None) -> rows.Repository:
    """The row of a checked document: a new one, or *before* changed. Passwords are not looked at.

    Raises:
        InvalidArgumentError: the upstream, or a label that sets something, cannot be understood.
    """
    name = RepositoryName.parse(document.name, field="name")
    scanning = document.vulnerability_scanning_config
    extra: dict[str, Any] = {}
    if scanning is not None:
        extra["vulnerabilityScanningConfig"] = write_document(scanning)
    if document.docker_config is not None:
        extra["dockerConfig"] = {}
    skip = _flag(document.labels, SKIP_UNAVAILABLE, False)
    virtual = document.virtual_repository_config or VirtualRepositoryConfig()
    return rows.Repository(
        id=before.id if before else 0,
        project=name.project,
        location=name.location,
        name=name.repository,
        mode=_STORED_MODES[document.mode],
        description=document.description,
        labels=document.labels,
        immutable_tags=bool(document.docker_config and document.docker_config.immutable_tags),
        remote=_stored_remote(document, before.remote if before else None),
        upstream_policies=tuple(
            rows.UpstreamPolicy(
                id=policy.id,
                repository=policy.repository,
                priority=policy.priority,
                skip_unavailable=skip,
            )
            for policy in virtual.upstream_policies
        ),
        cleanup_policies={k: write_document(p) for k, p in document.cleanup_policies.items()},
        cleanup_dry_run=document.cleanup_policy_dry_run,
        extra=extra,
        created_at=before.created_at if before else 0,
        etag=before.etag if before else "",
    )


def _docker_config(stored: rows.Repository) -> DockerRepositoryConfig | None:
    """As it was sent: a client that gave an empty one sees an empty one."""
    if stored.immutable_tags or "dockerConfig" in stored.extra:
        return DockerRepositoryConfig(immutable_tags=stored.immutable_tags)
    return None


def _virtual_config(stored: rows.Repository) -> VirtualRepositoryConfig | None:
    if stored.mode is not rows.Mode.VIRTUAL:
        return None
    return VirtualRepositoryConfig(
        upstream_policies=tuple(
            UpstreamPolicy(id=p.id, repository=p.repository, priority=p.priority)
            for p in stored.upstream_policies
        )
    )


def _remote_config(remote: rows.RemoteConfig | None) -> RemoteRepositoryConfig | None:
    if remote is None:
        return None
    sent = remote.extra.get("config")
    config = (
        decode_document(encode_document(read_document(sent, RemoteRepositoryConfig)), RemoteRepositoryConfig)
        if sent
        else _derived_config(remote.upstream)
    )  # fmt: skip
    credentials = None
    if remote.username:
        credentials = UpstreamCredentials(
            username_password_credentials=UsernamePasswordCredentials(
                username=remote.username, password_secret_version=remote.password_secret_version
            )
        )
    return replace(config, description=remote.description, upstream_credentials=credentials)


def _derived_config(upstream: str) -> RemoteRepositoryConfig:
    if upstream == PublicRepository.DOCKER_HUB:
        docker = DockerRepository(public_repository=PublicRepository.DOCKER_HUB)
        return RemoteRepositoryConfig(docker_repository=docker)
    return RemoteRepositoryConfig(common_repository=CommonRemoteRepository(uri=upstream))


def _scanning_config(sent: Mapping[str, Any]) -> VulnerabilityScanningConfig:
    return replace(
        read_document(sent, VulnerabilityScanningConfig),
        enablement_state=EnablementState.SCANNING_UNSUPPORTED,
        enablement_state_reason="this registry scans nothing",
    )


def _stored_remote(document: Repository, before: rows.RemoteConfig | None) -> rows.RemoteConfig | None:  # fmt: skip
    config = document.remote_repository_config
    if config is None:
        return None
    upstream = _upstream(config)
    try:
        parse_upstream(upstream)
    except UpstreamConfigError as error:
        raise InvalidArgumentError(
            error.what, field="remoteRepositoryConfig", why=error.why, fix=error.fix
        ) from error
    sent = write_document(
        RemoteRepositoryConfig(
            docker_repository=config.docker_repository, common_repository=config.common_repository
        )
    )
    credentials = (
        config.upstream_credentials and config.upstream_credentials.username_password_credentials
    ) or UsernamePasswordCredentials()
    kept = before is not None and before.password_secret_version == credentials.password_secret_version  # fmt: skip
    labels = document.labels
    return rows.RemoteConfig(
        upstream=upstream,
        description=config.description,
        username=credentials.username,
        password=before.password if kept and before else "",
        password_secret_version=credentials.password_secret_version,
        disable_upstream_validation=config.disable_upstream_validation,
        tag_ttl_s=_number(labels, TAG_TTL, 3600),
        negative_ttl_s=_number(labels, NEGATIVE_TTL, 60),
        serve_deleted=_flag(labels, SERVE_DELETED, True),
        size_cap_bytes=_number(labels, SIZE_CAP, 0) << 20,
        extra={"config": sent},
    )


def _upstream(config: RemoteRepositoryConfig) -> str:
    docker = config.docker_repository or DockerRepository()
    named: list[str] = [
        *([docker.public_repository.value] if _is_said(docker.public_repository) else ()),
        *(part.uri for part in (docker.custom_repository, config.common_repository) if part),
    ]
    if len(named) != 1 or not named[0]:
        raise InvalidArgumentError(
            "it names no upstream" if not any(named) else "it names more than one upstream",
            field="remoteRepositoryConfig",
            fix="one of dockerRepository.publicRepository, dockerRepository.customRepository.uri and commonRepository.uri",
        )
    return named[0]


def _is_said(public: PublicRepository | None) -> TypeGuard[PublicRepository]:
    return public not in (None, PublicRepository.PUBLIC_REPOSITORY_UNSPECIFIED)


def _number(labels: Mapping[str, str], name: str, default: int) -> int:
    text = labels.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 10:
        raise InvalidArgumentError(f"{text!r} is no number", field=f"labels.{name}")
    return int(text)


def _flag(labels: Mapping[str, str], name: str, default: bool) -> bool:
    text = labels.get(name, "")
    if text not in ("", "true", "false"):
        raise InvalidArgumentError(f"{text!r} is neither true nor false", field=f"labels.{name}")
    return default if not text else text == "true"
