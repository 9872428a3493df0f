"""What a repository may be: every field of a sent Repository checked, with the mode's own rules (pure).

Whether an upstream answers, and whether the members of a virtual repository exist, is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec.structs import replace

from hakobune.api.artifacts_documents import (
    Action,
    CleanupPolicy,
    CleanupPolicyCondition,
    CleanupPolicyMostRecentVersions,
    Format,
    Mode,
    RemoteRepositoryConfig,
    Repository,
    TagState,
    VirtualRepositoryConfig,
)
from hakobune.api.artifacts_names import RepositoryName, check_labels
from hakobune.serving.errors import InvalidArgumentError

MAX_CLEANUP_POLICIES = 10
MAX_UPSTREAM_POLICIES = 30
MAX_DESCRIPTION = 1024

# By JSON name: what a PATCH may change, and what it may repeat but never change.
SETTABLE = (
    "description",
    "labels",
    "dockerConfig",
    "virtualRepositoryConfig",
    "remoteRepositoryConfig",
    "cleanupPolicies",
    "cleanupPolicyDryRun",
    "vulnerabilityScanningConfig",
)
FIXED = ("name", "format", "mode", "kmsKeyName", "disallowUnspecifiedMode")

_DURATION = re.compile(r"(\d{1,12})(\.\d{1,9})?s")


def check_repository(sent: Repository, name: RepositoryName) -> Repository:
    """*sent* as it is kept under *name*: the mode said, the fields checked against it.

    Raises:
        InvalidArgumentError: the first field that cannot be, and why.
    """
    if sent.name and sent.name != str(name):
        raise InvalidArgumentError(f"it is {sent.name!r}, and {name} is asked for", field="name")
    if sent.format is not Format.DOCKER:
        _refuse_format(sent.format)
    if sent.kms_key_name:
        raise InvalidArgumentError(
            "content cannot be encrypted with a key of a key service",
            field="kmsKeyName",
            why="there is no key service here",
            fix="leave it out, and keep HAKO_HOME on an encrypted disk",
        )
    if sent.mode is Mode.MODE_UNSPECIFIED and sent.disallow_unspecified_mode:
        raise InvalidArgumentError("the mode is not said", field="mode")
    if len(sent.description) > MAX_DESCRIPTION:
        raise InvalidArgumentError("it is too long", field="description", why=f"{MAX_DESCRIPTION} characters at most")  # fmt: skip
    check_labels(sent.labels)
    mode = Mode.STANDARD_REPOSITORY if sent.mode is Mode.MODE_UNSPECIFIED else sent.mode
    _check_configs(sent, mode)
    return replace(
        sent,
        name=str(name),
        mode=mode,
        disallow_unspecified_mode=False,
        cleanup_policies=check_cleanup_policies(sent.cleanup_policies),
    )


def check_cleanup_policies(policies: Mapping[str, CleanupPolicy]) -> dict[str, CleanupPolicy]:
    """The policies, each with its id.

    Raises:
        InvalidArgumentError: there are too many, or one that says nothing or two things.
    """
    if len(policies) > MAX_CLEANUP_POLICIES:
        raise InvalidArgumentError(
            f"{len(policies)} policies are too many",
            field="cleanupPolicies",
            why=f"a repository has {MAX_CLEANUP_POLICIES} at most",
        )
    return {key: _check_cleanup_policy(key, policy) for key, policy in policies.items()}


def check_upstream_unchanged(
    old: RemoteRepositoryConfig | None, new: RemoteRepositoryConfig | None
) -> None:
    """See that a remote repository keeps its upstream.

    Raises:
        InvalidArgumentError: a cache would become one of another registry.
    """
    before = old or RemoteRepositoryConfig()
    after = new or RemoteRepositoryConfig()
    if (before.docker_repository, before.common_repository) != (
        after.docker_repository,
        after.common_repository,
    ):
        raise InvalidArgumentError(
            "the upstream of a remote repository cannot be changed",
            field="remoteRepositoryConfig",
            why="what is cached under its names came from the upstream it was made with",
            fix="make another repository",
        )


def duration_s(text: str, *, field: str) -> float:
    """The seconds in `"2592000s"`.

    Raises:
        InvalidArgumentError: it is no duration of the wire.
    """
    if not _DURATION.fullmatch(text):
        raise InvalidArgumentError(
            f"{text!r} is no duration", field=field, fix='write seconds, as in "2592000s" (30 days)'
        )
    return float(text[:-1])


def _refuse_format(given: Format) -> None:
    if given is Format.FORMAT_UNSPECIFIED:
        raise InvalidArgumentError("a repository needs a format", field="format", fix="DOCKER")
    raise InvalidArgumentError(
        f"repositories of format {given} are not kept here",
        field="format",
        why="this registry keeps container images and other OCI artifacts",
        fix="DOCKER",
    )


def _check_configs(sent: Repository, mode: Mode) -> None:
    for name, config, needs in (
        ("virtualRepositoryConfig", sent.virtual_repository_config, Mode.VIRTUAL_REPOSITORY),
        ("remoteRepositoryConfig", sent.remote_repository_config, Mode.REMOTE_REPOSITORY),
    ):
        if config is not None and mode is not needs:
            raise InvalidArgumentError(
                f"a repository of mode {mode} has none", field=name, fix=f"mode {needs}"
            )
    if mode is Mode.REMOTE_REPOSITORY:
        _check_remote(sent.remote_repository_config)
    if mode is Mode.VIRTUAL_REPOSITORY:
        _check_virtual(sent.virtual_repository_config or VirtualRepositoryConfig())
        if sent.cleanup_policies:
            raise InvalidArgumentError(
                "a virtual repository keeps nothing that could be cleaned up",
                field="cleanupPolicies",
                fix="set them on its upstream repositories",
            )
    if sent.docker_config and sent.docker_config.immutable_tags and mode is not Mode.STANDARD_REPOSITORY:  # fmt: skip
        raise InvalidArgumentError(
            f"tags of a repository of mode {mode} are its upstreams'",
            field="dockerConfig.immutableTags",
        )


def _check_remote(config: RemoteRepositoryConfig | None) -> None:
    field = "remoteRepositoryConfig"
    if config is None:
        raise InvalidArgumentError("a remote repository needs one", field=field)
    credentials = config.upstream_credentials and config.upstream_credentials.username_password_credentials  # fmt: skip
    if credentials and not (credentials.username and credentials.password_secret_version):
        raise InvalidArgumentError(
            "credentials are a user name and a password",
            field=f"{field}.upstreamCredentials.usernamePasswordCredentials",
        )


def _check_virtual(config: VirtualRepositoryConfig) -> None:
    field = "virtualRepositoryConfig.upstreamPolicies"
    policies = config.upstream_policies
    if len(policies) > MAX_UPSTREAM_POLICIES:
        raise InvalidArgumentError(f"{len(policies)} are too many", field=field, why=f"{MAX_UPSTREAM_POLICIES} at most")  # fmt: skip
    for place, policy in enumerate(policies):
        if not policy.id:
            raise InvalidArgumentError("a policy needs an id", field=f"{field}[{place}].id")
        if policy.priority < 0:
            raise InvalidArgumentError("it is negative", field=f"{field}[{place}].priority")
        RepositoryName.parse(policy.repository, field=f"{field}[{place}].repository")
    for what in ("id", "repository"):
        values = [getattr(policy, what) for policy in policies]
        twice = next((v for v in values if values.count(v) > 1), None)
        if twice is not None:
            raise InvalidArgumentError(f"{twice!r} stands twice", field=f"{field}[].{what}")


def _check_cleanup_policy(key: str, policy: CleanupPolicy) -> CleanupPolicy:
    field = f"cleanupPolicies.{key}"
    if policy.id and policy.id != key:
        raise InvalidArgumentError(f"its id is {policy.id!r}", field=field)
    if not re.fullmatch(r"[a-z]([a-z0-9._-]{0,61}[a-z0-9])?", key):
        raise InvalidArgumentError(
            f"{key!r} is no policy's id",
            field=field,
            why="an id has lower-case letters, digits and -._, begins with a letter, ends with a letter or digit",
        )
    if policy.action is Action.ACTION_UNSPECIFIED:
        raise InvalidArgumentError("it has no action", field=f"{field}.action", fix="DELETE or KEEP")  # fmt: skip
    given = [part for part in (policy.condition, policy.most_recent_versions) if part is not None]
    if len(given) != 1:
        raise InvalidArgumentError(
            "it has two conditions" if given else "it has no condition",
            field=field,
            fix="give condition or mostRecentVersions",
        )
    if policy.condition is not None:
        _check_condition(f"{field}.condition", policy.condition)
    if policy.most_recent_versions is not None:
        _check_recent(field, policy.action, policy.most_recent_versions)
    return replace(policy, id=key)


def _check_recent(field: str, action: Action, recent: CleanupPolicyMostRecentVersions) -> None:
    if action is not Action.KEEP:
        raise InvalidArgumentError("the most recent versions can be kept, not deleted", field=f"{field}.action", fix="KEEP")  # fmt: skip
    if recent.keep_count < 1:
        raise InvalidArgumentError("it is not positive", field=f"{field}.mostRecentVersions.keepCount")  # fmt: skip


def _check_condition(field: str, condition: CleanupPolicyCondition) -> None:
    if condition == CleanupPolicyCondition():
        raise InvalidArgumentError("it is empty", field=field, fix='"tagState": "ANY" means every version')  # fmt: skip
    if condition.tag_prefixes and condition.tag_state is not TagState.TAGGED:
        raise InvalidArgumentError(
            "prefixes of tags need tagged versions",
            field=f"{field}.tagPrefixes",
            fix='"tagState": "TAGGED"',
        )
    for name, text in (("olderThan", condition.older_than), ("newerThan", condition.newer_than)):
        if text:
            duration_s(text, field=f"{field}.{name}")
