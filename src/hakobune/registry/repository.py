"""A repository as Artifact Registry knows it: how it is named, what kind it is and what its owner has set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from hakobune.registry.errors import ResourceError


class Mode(StrEnum):
    """Where a repository's content comes from; never changes."""

    STANDARD = "standard"
    REMOTE = "remote"
    VIRTUAL = "virtual"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """What a remote repository is in front of."""

    upstream: str  # DOCKER_HUB, https://HOST[/PREFIX], or projects/P/locations/L/repositories/R
    description: str = ""
    username: str = ""
    password: str = ""  # as `iam.secret_box` has sealed it; "" is none
    password_secret_version: str = ""  # the name that the API was given for it
    disable_upstream_validation: bool = False
    tag_ttl_s: int = 3600  # for so long a tag is not asked for again; 0: always asked
    negative_ttl_s: int = 60
    serve_deleted: bool = True  # what the upstream no longer has is still served
    size_cap_bytes: int = 0  # the least recently pulled goes first; 0: no cap
    extra: Mapping[str, Any] = field(default_factory=dict)  # handed back, without a meaning here


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamPolicy:
    """One source of a virtual repository; the greater priority is asked first."""

    id: str
    repository: str  # projects/P/locations/L/repositories/R
    priority: int
    skip_unavailable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """`projects/PROJECT/locations/LOCATION/repositories/NAME`; (project, name) is unique over all locations.

    Times are microseconds since 1970.
    """

    id: int = 0  # 0: not stored yet
    project: str
    location: str
    name: str
    mode: Mode = Mode.STANDARD
    format: str = "DOCKER"
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    immutable_tags: bool = False
    remote: RemoteConfig | None = None
    upstream_policies: tuple[UpstreamPolicy, ...] = ()
    cleanup_policies: Mapping[str, Any] = field(default_factory=dict)  # id → the API's own JSON
    cleanup_dry_run: bool = False
    # Fields of the API without a meaning here.
    extra: Mapping[str, Any] = field(default_factory=dict)
    created_at: int = 0
    updated_at: int = 0
    etag: str = ""

    @property
    def resource(self) -> str:
        """The full name, as policies and the audit trail have it."""
        return f"projects/{self.project}/locations/{self.location}/repositories/{self.name}"

    @property
    def path(self) -> str:
        """PROJECT/NAME, as the name of an image begins."""
        return f"{self.project}/{self.name}"

    @property
    def policies_by_priority(self) -> tuple[UpstreamPolicy, ...]:
        """The sources, the one that is asked first in front."""
        return tuple(sorted(self.upstream_policies, key=lambda p: (-p.priority, p.id)))


COLUMNS = (
    "id, project, location, name, mode, format, description, labels, immutable_tags, config, "
    "cleanup_policies, cleanup_dry_run, created_at, updated_at, etag"
)


def from_row(row: tuple[Any, ...]) -> Repository:
    """The repository of a row of `COLUMNS`."""
    config = json.loads(row[9])
    remote = config.get("remote")
    return Repository(
        id=row[0],
        project=row[1],
        location=row[2],
        name=row[3],
        mode=Mode(row[4]),
        format=row[5],
        description=row[6],
        labels=json.loads(row[7]),
        immutable_tags=bool(row[8]),
        remote=None if remote is None else RemoteConfig(**remote),
        upstream_policies=tuple(UpstreamPolicy(**p) for p in config.get("policies", ())),
        extra=config.get("extra", {}),
        cleanup_policies=json.loads(row[10]),
        cleanup_dry_run=bool(row[11]),
        created_at=row[12],
        updated_at=row[13],
        etag=row[14],
    )


def to_columns(repository: Repository) -> tuple[Any, ...]:
    """The values of `COLUMNS` from `description` to `cleanup_dry_run`."""
    config: dict[str, Any] = {}
    if repository.remote is not None:
        config["remote"] = asdict(repository.remote)
    if repository.upstream_policies:
        config["policies"] = [asdict(p) for p in repository.upstream_policies]
    if repository.extra:
        config["extra"] = dict(repository.extra)
    return (
        repository.description,
        _json(repository.labels),
        int(repository.immutable_tags),
        _json(config),
        _json(repository.cleanup_policies),
        int(repository.cleanup_dry_run),
    )


def parse_resource(text: str) -> tuple[str, str, str]:
    """PROJECT, LOCATION and NAME of `projects/P/locations/L/repositories/R`.

    Raises:
        ResourceError: it is something else.
    """
    parts = text.split("/")
    if len(parts) != 6 or parts[0::2] != ["projects", "locations", "repositories"] or "" in parts:
        raise ResourceError(
            "INVALID_ARGUMENT",
            f"{text!r} is not the name of a repository",
            why="it is projects/PROJECT/locations/LOCATION/repositories/REPOSITORY",
        )
    return parts[1], parts[3], parts[5]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
