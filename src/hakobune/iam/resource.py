"""Resources that have a policy, by their names, and which is above which."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from hakobune.iam.errors import InvalidRequestError


class ResourceKind(StrEnum):
    """The kinds of resource on which roles are granted."""

    PROJECT = "project"
    REPOSITORY = "repository"
    SERVICE = "service"
    SERVICE_ACCOUNT = "service account"


_SEGMENT: Final = r"[^/:]+"
_NAMES: Final = (
    (ResourceKind.PROJECT, re.compile(rf"projects/({_SEGMENT})")),
    (ResourceKind.REPOSITORY, re.compile(rf"projects/({_SEGMENT})/locations/{_SEGMENT}/repositories/{_SEGMENT}")),
    (ResourceKind.SERVICE, re.compile(rf"projects/({_SEGMENT})/locations/{_SEGMENT}/services/{_SEGMENT}")),
    (ResourceKind.SERVICE_ACCOUNT, re.compile(rf"projects/({_SEGMENT})/serviceAccounts/{_SEGMENT}")),
)  # fmt: skip


def project(name: str) -> str:
    """The resource name of a project."""
    return f"projects/{name}"


def repository(project: str, location: str, name: str) -> str:
    """The resource name of a repository."""
    return f"projects/{project}/locations/{location}/repositories/{name}"


def kind_of(resource: str) -> ResourceKind:
    """What the name names.

    Raises:
        InvalidRequestError: nothing that has a policy.
    """
    for kind, pattern in _NAMES:
        if pattern.fullmatch(resource):
            return kind
    raise InvalidRequestError(
        f"{resource!r} has no policy",
        why="it is no project, repository, service or service account",
    )


def chain(resource: str) -> tuple[str, ...]:
    """The resource and what is above it, nearest first: policies of all of them apply."""
    head, _, rest = resource.partition("/")
    name, slash, _ = rest.partition("/")
    return (resource, f"{head}/{name}") if slash else (resource,)
