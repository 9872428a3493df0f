"""Which role holds which permission: the one table behind every decision, in Google's names.

A column is a role, a row a permission; `x` means that the role holds it. Roles are granted on a resource and
hold there and on everything under it; `GRANTED_ON` says on which kinds of resource.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from hakobune.iam.errors import InvalidRequestError
from hakobune.iam.resource import ResourceKind

# What the registry asks for.
PULL: Final = "artifactregistry.repositories.downloadArtifacts"
PULL_VIA_VIRTUAL: Final = "artifactregistry.repositories.readViaVirtualRepository"
PUSH: Final = "artifactregistry.repositories.uploadArtifacts"
DELETE: Final = "artifactregistry.repositories.deleteArtifacts"
CREATE_ON_PUSH: Final = "artifactregistry.repositories.createOnPush"

_REGISTRY: Final = """
                                   reader writer repoAdmin admin createOnPushWriter createOnPushRepoAdmin serviceAgent viewer editor owner
repositories.downloadArtifacts        x      x       x       x           x                    x                x         x      x     x
repositories.readViaVirtualRepository x      x       x       x           x                    x                x         x      x     x
repositories.get                      x      x       x       x           x                    x                x         x      x     x
repositories.list                     x      x       x       x           x                    x                x         x      x     x
repositories.uploadArtifacts          .      x       x       x           x                    x                .         .      x     x
repositories.deleteArtifacts          .      .       x       x           .                    x                .         .      x     x
repositories.createOnPush             .      .       .       .           x                    x                .         .      .     x
repositories.create                   .      .       .       x           .                    .                .         .      x     x
repositories.update                   .      .       .       x           .                    .                .         .      x     x
repositories.delete                   .      .       .       x           .                    .                .         .      x     x
repositories.getIamPolicy             .      .       .       x           .                    .                .         x      x     x
repositories.setIamPolicy             .      .       .       x           .                    .                .         .      .     x
locations.get                         x      x       x       x           x                    x                .         x      x     x
locations.list                        x      x       x       x           x                    x                .         x      x     x
dockerimages.get                      x      x       x       x           x                    x                .         x      x     x
dockerimages.list                     x      x       x       x           x                    x                .         x      x     x
packages.get                          x      x       x       x           x                    x                .         x      x     x
packages.list                         x      x       x       x           x                    x                .         x      x     x
packages.update                       .      .       x       x           .                    x                .         .      x     x
packages.delete                       .      .       x       x           .                    x                .         .      x     x
versions.get                          x      x       x       x           x                    x                .         x      x     x
versions.list                         x      x       x       x           x                    x                .         x      x     x
versions.update                       .      .       x       x           .                    x                .         .      x     x
versions.delete                       .      .       x       x           .                    x                .         .      x     x
tags.get                              x      x       x       x           x                    x                .         x      x     x
tags.list                             x      x       x       x           x                    x                .         x      x     x
tags.create                           .      x       x       x           x                    x                .         .      x     x
tags.update                           .      x       x       x           x                    x                .         .      x     x
tags.delete                           .      .       x       x           .                    x                .         .      x     x
files.get                             x      x       x       x           x                    x                .         x      x     x
files.list                            x      x       x       x           x                    x                .         x      x     x
files.download                        x      x       x       x           x                    x                .         x      x     x
files.update                          .      .       x       x           .                    x                .         .      x     x
files.delete                          .      .       x       x           .                    x                .         .      x     x
attachments.get                       x      x       x       x           x                    x                .         x      x     x
attachments.list                      x      x       x       x           x                    x                .         x      x     x
attachments.create                    .      x       x       x           x                    x                .         .      x     x
attachments.delete                    .      .       x       x           .                    x                .         .      x     x
rules.get                             x      x       x       x           x                    x                .         x      x     x
rules.list                            x      x       x       x           x                    x                .         x      x     x
rules.create                          .      .       .       x           .                    .                .         .      x     x
rules.update                          .      .       .       x           .                    .                .         .      x     x
rules.delete                          .      .       .       x           .                    .                .         .      x     x
projectsettings.get                   x      x       x       x           x                    x                .         x      x     x
projectsettings.update                .      .       .       x           .                    .                .         .      .     x
"""  # fmt: skip

_RUN: Final = """
                        invoker viewer developer admin / viewer editor owner
routes.invoke              x      .       .        x       .      .     x
services.get               .      x       x        x       x      x     x
services.list              .      x       x        x       x      x     x
services.create            .      .       x        x       .      x     x
services.update            .      .       x        x       .      x     x
services.delete            .      .       x        x       .      x     x
services.getIamPolicy      .      x       x        x       x      x     x
services.setIamPolicy      .      .       .        x       .      .     x
revisions.get              .      x       x        x       x      x     x
revisions.list             .      x       x        x       x      x     x
revisions.delete           .      .       x        x       .      x     x
operations.get             .      x       x        x       x      x     x
operations.list            .      x       x        x       x      x     x
operations.delete          .      .       x        x       .      x     x
"""

_IAM: Final = """
                                 serviceAccountAdmin serviceAccountKeyAdmin serviceAccountTokenCreator serviceAccountUser / viewer editor owner
serviceAccounts.get                       x                    x                       x                      x               x      x     x
serviceAccounts.list                      x                    x                       x                      x               x      x     x
serviceAccounts.create                    x                    .                       .                      .               .      x     x
serviceAccounts.update                    x                    .                       .                      .               .      x     x
serviceAccounts.delete                    x                    .                       .                      .               .      x     x
serviceAccounts.disable                   x                    .                       .                      .               .      x     x
serviceAccounts.enable                    x                    .                       .                      .               .      x     x
serviceAccounts.getIamPolicy              x                    .                       .                      .               x      x     x
serviceAccounts.setIamPolicy              x                    .                       .                      .               .      .     x
serviceAccounts.getAccessToken            .                    .                       x                      .               .      .     .
serviceAccounts.actAs                     .                    .                       .                      x               .      x     x
serviceAccountKeys.get                    .                    x                       .                      .               x      x     x
serviceAccountKeys.list                   .                    x                       .                      .               x      x     x
serviceAccountKeys.create                 .                    x                       .                      .               .      x     x
serviceAccountKeys.delete                 .                    x                       .                      .               .      x     x
serviceAccountKeys.disable                .                    x                       .                      .               .      x     x
serviceAccountKeys.enable                 .                    x                       .                      .               .      x     x
"""  # fmt: skip

_PROJECT: Final = """
                          projectIamAdmin browser / viewer editor owner
projects.get                     x           x         x      x     x
projects.getIamPolicy            x           x         x      x     x
projects.setIamPolicy            x           .         .      .     x
"""

_P, _R, _S, _A = (
    ResourceKind.PROJECT,
    ResourceKind.REPOSITORY,
    ResourceKind.SERVICE,
    ResourceKind.SERVICE_ACCOUNT,
)

# On which kinds of resource a role may be granted: where at least one of its permissions means something.
GRANTED_ON: Final[Mapping[str, frozenset[ResourceKind]]] = MappingProxyType(
    {
        "artifactregistry": frozenset((_P, _R)),
        "run": frozenset((_P, _S)),
        "iam": frozenset((_P, _A)),
        "resourcemanager": frozenset((_P,)),
        "": frozenset((_P,)),
    }
)

_TITLES: Final = {
    "roles/artifactregistry.reader": "pull images and see what a repository holds",
    "roles/artifactregistry.writer": "pull and push images, set tags",
    "roles/artifactregistry.repoAdmin": "pull, push and delete images and tags",
    "roles/artifactregistry.admin": "everything about repositories, grants included",
    "roles/artifactregistry.createOnPushWriter": "writer, whose first push makes the repository",
    "roles/artifactregistry.createOnPushRepoAdmin": "repoAdmin, whose first push makes the repository",
    "roles/artifactregistry.serviceAgent": "read the upstreams of a project's repositories (its own agent)",
    "roles/run.invoker": "call services (granted for later: so far services answer whoever reaches them)",
    "roles/run.viewer": "see services, revisions and logs",
    "roles/run.developer": "deploy and delete services",
    "roles/run.admin": "everything about services, grants included",
    "roles/run.serviceAgent": "pull what a project's services run (its own agent)",
    "roles/iam.serviceAccountAdmin": "create, change and delete service accounts",
    "roles/iam.serviceAccountKeyAdmin": "create and delete keys of service accounts",
    "roles/iam.serviceAccountTokenCreator": "get access tokens of a service account",
    "roles/iam.serviceAccountUser": "run things as a service account",
    "roles/resourcemanager.projectIamAdmin": "read and change a project's policy",
    "roles/browser": "see a project and its policy",
    "roles/viewer": "read everything in a project",
    "roles/editor": "read and change everything in a project but grants",
    "roles/owner": "everything in a project",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role, what it is for, and what it holds."""

    name: str
    title: str
    permissions: frozenset[str]
    granted_on: frozenset[ResourceKind]


def find_role(name: str) -> Role:
    """The role of that full name, `roles/…`.

    Raises:
        InvalidRequestError: there is none; the nearest name is the fix.
    """
    role = ROLES.get(name)
    if role is not None:
        return role
    if name.startswith(("projects/", "organizations/")):
        raise InvalidRequestError(f"{name!r} is no role", why="hakobune has no custom roles")
    import difflib  # only needed when something is wrong

    short = name.removeprefix("roles/")
    candidates = {known.rpartition("/")[2]: known for known in ROLES}
    near = [known for known in candidates if known.endswith(f".{short}")]
    near = near[:1] or difflib.get_close_matches(short, candidates, n=1)
    raise InvalidRequestError(
        f"{name!r} is no role",
        why="" if name.startswith("roles/") else "a role's name begins with roles/",
        fix=candidates[near[0]] if near else "hako iam roles list",
    )


def _read(grid: str, service: str, holders: dict[str, set[str]]) -> None:
    """Add a grid's cells: columns after `/` (or named as a basic role in the first grid) are basic roles."""
    header, *rows = grid.strip("\n").splitlines()
    names = header.split()
    separator = names.index("/") if "/" in names else names.index("viewer")
    columns = [
        f"roles/{service}.{name}" if place < separator else f"roles/{name}"
        for place, name in enumerate(name for name in names if name != "/")
    ]
    for row in rows:
        permission, *cells = row.split()
        for column, cell in zip(columns, cells, strict=True):
            if cell == "x":
                holders.setdefault(column, set()).add(f"{service}.{permission}")


def _read_roles() -> Mapping[str, Role]:
    holders: dict[str, set[str]] = {}
    _read(_REGISTRY, "artifactregistry", holders)
    _read(_RUN, "run", holders)
    _read(_IAM, "iam", holders)
    _read(_PROJECT, "resourcemanager", holders)
    holders["roles/browser"] = holders.pop("roles/resourcemanager.browser")
    # Cloud Run's agent pulls images: the one role of a service with permissions of another.
    holders["roles/run.serviceAgent"] = holders["roles/artifactregistry.reader"]
    return MappingProxyType(
        {
            name: Role(
                name=name,
                title=_TITLES[name],
                permissions=frozenset(permissions),
                granted_on=_granted_on(name),
            )
            for name, permissions in holders.items()
        }
    )


def _granted_on(name: str) -> frozenset[ResourceKind]:
    if name == "roles/browser":
        return GRANTED_ON["resourcemanager"]
    service, dot, _ = name.removeprefix("roles/").partition(".")
    return GRANTED_ON[service if dot else ""]


ROLES: Final = _read_roles()
PERMISSIONS: Final = frozenset().union(*(role.permissions for role in ROLES.values()))
