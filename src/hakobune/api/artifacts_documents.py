"""The messages of Artifact Registry v1 as they stand on the wire (google.devtools.artifactregistry.v1), for DOCKER.

What other formats have of their own (Maven's version policy, apt's repository bases) is absent: a request that
carries it is refused as an unknown field, and nothing that is sent would hold it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import msgspec

from hakobune.serving.document import Document, ProtoEnum


class Format(ProtoEnum):
    """The kind of artifacts in a repository; the proto's numbers have gaps."""

    FORMAT_UNSPECIFIED = "FORMAT_UNSPECIFIED"
    DOCKER = "DOCKER"
    MAVEN = "MAVEN"
    NPM = "NPM"
    APT = "APT"
    YUM = "YUM"
    PYTHON = "PYTHON"
    KFP = "KFP"
    GO = "GO"
    GENERIC = "GENERIC"
    RUBY = "RUBY"

    @classmethod
    def from_number(cls, number: int) -> Self | None:
        numbers: dict[int, Self] = dict(zip((0, 1, 2, 3, 5, 6, 8, 9, 10, 11, 12), cls, strict=True))
        return numbers.get(number)


class Mode(ProtoEnum):
    MODE_UNSPECIFIED = "MODE_UNSPECIFIED"
    STANDARD_REPOSITORY = "STANDARD_REPOSITORY"
    VIRTUAL_REPOSITORY = "VIRTUAL_REPOSITORY"
    REMOTE_REPOSITORY = "REMOTE_REPOSITORY"


class PublicRepository(ProtoEnum):
    PUBLIC_REPOSITORY_UNSPECIFIED = "PUBLIC_REPOSITORY_UNSPECIFIED"
    DOCKER_HUB = "DOCKER_HUB"


class TagState(ProtoEnum):
    TAG_STATE_UNSPECIFIED = "TAG_STATE_UNSPECIFIED"
    TAGGED = "TAGGED"
    UNTAGGED = "UNTAGGED"
    ANY = "ANY"


class Action(ProtoEnum):
    ACTION_UNSPECIFIED = "ACTION_UNSPECIFIED"
    DELETE = "DELETE"
    KEEP = "KEEP"


class EnablementConfig(ProtoEnum):
    ENABLEMENT_CONFIG_UNSPECIFIED = "ENABLEMENT_CONFIG_UNSPECIFIED"
    INHERITED = "INHERITED"
    DISABLED = "DISABLED"


class EnablementState(ProtoEnum):
    ENABLEMENT_STATE_UNSPECIFIED = "ENABLEMENT_STATE_UNSPECIFIED"
    SCANNING_UNSUPPORTED = "SCANNING_UNSUPPORTED"
    SCANNING_DISABLED = "SCANNING_DISABLED"
    SCANNING_ACTIVE = "SCANNING_ACTIVE"


class HashType(ProtoEnum):
    HASH_TYPE_UNSPECIFIED = "HASH_TYPE_UNSPECIFIED"
    SHA256 = "SHA256"
    MD5 = "MD5"
    DIRSUM_SHA256 = "DIRSUM_SHA256"


class RedirectionState(ProtoEnum):
    """Whether gcr.io names lead here; the proto's numbers have a gap."""

    REDIRECTION_STATE_UNSPECIFIED = "REDIRECTION_STATE_UNSPECIFIED"
    REDIRECTION_FROM_GCR_IO_DISABLED = "REDIRECTION_FROM_GCR_IO_DISABLED"
    REDIRECTION_FROM_GCR_IO_ENABLED = "REDIRECTION_FROM_GCR_IO_ENABLED"
    REDIRECTION_FROM_GCR_IO_FINALIZED = "REDIRECTION_FROM_GCR_IO_FINALIZED"
    REDIRECTION_FROM_GCR_IO_ENABLED_AND_COPYING = "REDIRECTION_FROM_GCR_IO_ENABLED_AND_COPYING"
    REDIRECTION_FROM_GCR_IO_PARTIAL_AND_COPYING = "REDIRECTION_FROM_GCR_IO_PARTIAL_AND_COPYING"

    @classmethod
    def from_number(cls, number: int) -> Self | None:
        numbers: dict[int, Self] = dict(zip((0, 1, 2, 3, 5, 6), cls, strict=True))
        return numbers.get(number)


class DockerRepositoryConfig(Document, frozen=True):
    immutable_tags: bool = False


class UpstreamPolicy(Document, frozen=True):
    """One member of a virtual repository; the greater priority wins."""

    id: str = ""
    repository: str = ""  # projects/P/locations/L/repositories/R
    priority: int = 0


class VirtualRepositoryConfig(Document, frozen=True):
    upstream_policies: tuple[UpstreamPolicy, ...] = ()


class CustomRepository(Document, frozen=True):
    uri: str = ""


class DockerRepository(Document, frozen=True):
    """The upstream of a remote repository: one of two."""

    public_repository: PublicRepository | None = None
    custom_repository: CustomRepository | None = None


class CommonRemoteRepository(Document, frozen=True):
    """An upstream by URL, or another repository here by its resource name."""

    uri: str = ""


class UsernamePasswordCredentials(Document, frozen=True):
    username: str = ""
    password_secret_version: str = ""


class UpstreamCredentials(Document, frozen=True):
    username_password_credentials: UsernamePasswordCredentials | None = None


class RemoteRepositoryConfig(Document, frozen=True):
    docker_repository: DockerRepository | None = None
    common_repository: CommonRemoteRepository | None = None
    description: str = ""
    upstream_credentials: UpstreamCredentials | None = None
    disable_upstream_validation: bool = False  # input only


class CleanupPolicyCondition(Document, frozen=True):
    tag_state: TagState | None = None
    tag_prefixes: tuple[str, ...] = ()
    version_name_prefixes: tuple[str, ...] = ()
    package_name_prefixes: tuple[str, ...] = ()
    older_than: str = ""
    newer_than: str = ""


class CleanupPolicyMostRecentVersions(Document, frozen=True):
    package_name_prefixes: tuple[str, ...] = ()
    keep_count: int = 0


class CleanupPolicy(Document, frozen=True):
    """A rule; one of `condition` and `most_recent_versions`."""

    id: str = ""
    action: Action = Action.ACTION_UNSPECIFIED
    condition: CleanupPolicyCondition | None = None
    most_recent_versions: CleanupPolicyMostRecentVersions | None = None


class VulnerabilityScanningConfig(Document, frozen=True):
    OUTPUT_ONLY: ClassVar[frozenset[str]] = frozenset(
        {"lastEnableTime", "enablementState", "enablementStateReason"}
    )
    enablement_config: EnablementConfig = EnablementConfig.ENABLEMENT_CONFIG_UNSPECIFIED
    last_enable_time: str = ""
    enablement_state: EnablementState = EnablementState.ENABLEMENT_STATE_UNSPECIFIED
    enablement_state_reason: str = ""


class Repository(Document, frozen=True):
    OUTPUT_ONLY: ClassVar[frozenset[str]] = frozenset(
        {"createTime", "updateTime", "sizeBytes", "satisfiesPzs", "satisfiesPzi", "registryUri"}
    )
    name: str = ""
    format: Format = Format.FORMAT_UNSPECIFIED
    mode: Mode = Mode.MODE_UNSPECIFIED
    description: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    docker_config: DockerRepositoryConfig | None = None
    virtual_repository_config: VirtualRepositoryConfig | None = None
    remote_repository_config: RemoteRepositoryConfig | None = None
    cleanup_policies: dict[str, CleanupPolicy] = msgspec.field(default_factory=dict)
    cleanup_policy_dry_run: bool = False
    vulnerability_scanning_config: VulnerabilityScanningConfig | None = None
    kms_key_name: str = ""
    disallow_unspecified_mode: bool = False  # input only
    create_time: str = ""
    update_time: str = ""
    size_bytes: str = ""  # int64
    registry_uri: str = ""


class ImageManifest(Document, frozen=True):
    """One platform of an index."""

    architecture: str = ""
    os: str = ""
    digest: str = ""
    media_type: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    variant: str = ""


class DockerImage(Document, frozen=True):
    name: str = ""
    uri: str = ""
    tags: tuple[str, ...] = ()
    image_size_bytes: str = ""  # int64
    upload_time: str = ""
    media_type: str = ""
    build_time: str = ""
    update_time: str = ""
    artifact_type: str = ""
    image_manifests: tuple[ImageManifest, ...] = ()


class Package(Document, frozen=True):
    OUTPUT_ONLY: ClassVar[frozenset[str]] = frozenset({"createTime", "updateTime"})
    name: str = ""
    display_name: str = ""
    create_time: str = ""
    update_time: str = ""
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class Tag(Document, frozen=True):
    name: str = ""
    version: str = ""


class Hash(Document, frozen=True):
    type: HashType = HashType.HASH_TYPE_UNSPECIFIED
    value: str = ""  # base64


class Version(Document, frozen=True):
    OUTPUT_ONLY: ClassVar[frozenset[str]] = frozenset(
        {"createTime", "updateTime", "relatedTags", "metadata", "fingerprints"}
    )
    name: str = ""
    description: str = ""
    create_time: str = ""
    update_time: str = ""
    related_tags: tuple[Tag, ...] = ()
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)  # google.protobuf.Struct
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class File(Document, frozen=True):
    OUTPUT_ONLY: ClassVar[frozenset[str]] = frozenset(
        {"sizeBytes", "hashes", "createTime", "updateTime", "owner", "fetchTime"}
    )
    name: str = ""
    size_bytes: str = ""  # int64
    hashes: tuple[Hash, ...] = ()
    create_time: str = ""
    update_time: str = ""
    owner: str = ""
    fetch_time: str = ""
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class Attachment(Document, frozen=True):
    """A manifest with a subject, as Artifact Registry shows it beside its target."""

    OUTPUT_ONLY: ClassVar[frozenset[str]] = frozenset(
        {"createTime", "updateTime", "ociVersionName"}
    )
    name: str = ""
    target: str = ""
    type: str = ""
    attachment_namespace: str = ""
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    create_time: str = ""
    update_time: str = ""
    files: tuple[str, ...] = ()
    oci_version_name: str = ""


class ProjectSettings(Document, frozen=True):
    name: str = ""
    legacy_redirection_state: RedirectionState = RedirectionState.REDIRECTION_STATE_UNSPECIFIED
    pull_percent: int = 0
