"""Which thing of the registry a path names (distribution-spec "Endpoints"), read from the right.

Image names may themselves hold the words `blobs` and `manifests`, so the last one decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Final

NAME_LIMIT: Final = 255

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_RESERVED: Final = ("_oci/", "_docker/", "_chainguard/")


class Kind(IntEnum):  # hashed in C, which every request needs
    """What a path names."""

    BASE = auto()
    MANIFEST = auto()
    BLOB = auto()
    UPLOADS = auto()
    UPLOAD = auto()
    TAGS = auto()
    REFERRERS = auto()
    CATALOG = auto()
    TOKEN = auto()
    HEALTH = auto()
    METRICS = auto()
    API = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Route:
    """A thing by its path. *name* is `PROJECT/REPOSITORY/IMAGE`, unchecked; *reference* what stands at the end."""

    kind: Kind
    name: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class ImageName:
    """`PROJECT/REPOSITORY/IMAGE`: the first two segments select the repository."""

    project: str
    repository: str
    image: str


_FIXED: Final = {
    "/v2": Route(Kind.BASE),
    "/v2/": Route(Kind.BASE),
    "/v2/_catalog": Route(Kind.CATALOG),
    "/v2/token": Route(Kind.TOKEN),
    "/token": Route(Kind.TOKEN),
    "/healthz": Route(Kind.HEALTH),
    "/metrics": Route(Kind.METRICS),
}
OTHER: Final = Route(Kind.OTHER)


def find_route(path: str) -> Route:
    """The thing that *path* names; `OTHER` if it names none."""
    if fixed := _FIXED.get(path):
        return fixed
    if path.startswith("/v1/"):
        return Route(Kind.API)
    if not path.startswith("/v2/") or path.startswith(_RESERVED, 4):
        return OTHER
    rest = path[4:]
    if rest.endswith("/tags/list"):
        return Route(Kind.TAGS, rest[: -len("/tags/list")])
    before, slash, last = rest.rpartition("/")
    if not slash:
        return OTHER
    if before.endswith("/manifests"):
        return Route(Kind.MANIFEST, before[: -len("/manifests")], last)
    if before.endswith("/blobs/uploads"):
        name = before[: -len("/blobs/uploads")]
        return Route(Kind.UPLOAD, name, last) if last else Route(Kind.UPLOADS, name)
    if before.endswith("/blobs"):
        name = before[: -len("/blobs")]
        return Route(Kind.UPLOADS, name) if last == "uploads" else Route(Kind.BLOB, name, last)
    if before.endswith("/referrers"):
        return Route(Kind.REFERRERS, before[: -len("/referrers")], last)
    return OTHER


def is_name(text: str) -> bool:
    """Whether *text* follows the grammar of a repository `<name>` (distribution-spec "Pulling manifests")."""
    return len(text) <= NAME_LIMIT and _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether *text* follows the grammar of a tag."""
    return _TAG.fullmatch(text) is not None


def split_name(name: str) -> ImageName | None:
    """The parts of a grammatical name; None if it is too short to name an image here."""
    project, _, rest = name.partition("/")
    repository, slash, image = rest.partition("/")
    return ImageName(project, repository, image) if slash else None
