"""Names of Artifact Registry's resources: parsed once, written with the slashes of an image's name escaped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from hakobune.serving.errors import InvalidArgumentError

_REPOSITORY_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_FULL = re.compile(r"projects/([^/]+)/locations/([^/]+)/repositories/([^/]+)")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_PROJECT = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?(:[a-z0-9-]+)?|[0-9]+")
_LOCATION = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
MAX_LABELS = 64


@dataclass(frozen=True, slots=True)
class RepositoryName:
    """`projects/P/locations/L/repositories/R`."""

    project: str
    location: str
    repository: str

    @classmethod
    def parse(cls, text: str, *, field: str) -> RepositoryName:
        """Read a full name.

        Raises:
            InvalidArgumentError: *text* is none; *field* is named.
        """
        found = _FULL.fullmatch(text)
        if found is None:
            raise InvalidArgumentError(
                f"{text!r} is no repository's name",
                field=field,
                fix="projects/PROJECT/locations/LOCATION/repositories/REPOSITORY",
            )
        return cls(*found.groups())

    @property
    def parent(self) -> str:
        return location_name(self.project, self.location)

    def __str__(self) -> str:
        return f"{self.parent}/repositories/{self.repository}"

    def package(self, image: str) -> str:
        return f"{self}/packages/{escape_id(image)}"

    def version(self, image: str, digest: str) -> str:
        return f"{self.package(image)}/versions/{digest}"

    def tag(self, image: str, tag: str) -> str:
        return f"{self.package(image)}/tags/{tag}"

    def docker_image(self, image: str, digest: str) -> str:
        return f"{self}/dockerImages/{escape_id(image)}@{digest}"

    def file(self, file: str) -> str:
        return f"{self}/files/{escape_id(file)}"

    def attachment(self, attachment: str) -> str:
        return f"{self}/attachments/{attachment}"


def location_name(project: str, location: str) -> str:
    return f"projects/{project}/locations/{location}"


def escape_id(text: str) -> str:
    """An image's name as a package's id: `dir%2Fapp` for `dir/app`."""
    return text.replace("/", "%2F")


def image_of(package_id: str) -> str:
    """The image's name of a package's id.

    Some clients escape once less than others on the wire; no image's name has a percent sign, so both are read.
    """
    return unquote(package_id)


def split_image(identifier: str, *, field: str) -> tuple[str, str]:
    """Image and digest of `dir%2Fapp@sha256:…`.

    Raises:
        InvalidArgumentError: it has no digest.
    """
    image, _, digest = image_of(identifier).rpartition("@")
    if not image or ":" not in digest:
        raise InvalidArgumentError(
            f"{identifier!r} names no image by its digest", field=field, fix="IMAGE@sha256:…"
        )
    return image, digest


def check_place(project: str, location: str) -> None:
    """Refuse projects and locations that no name on a registry's host can have.

    Raises:
        InvalidArgumentError: which, and why.
    """
    if not _PROJECT.fullmatch(project) or project == "projects":
        raise InvalidArgumentError(
            f"{project!r} is no project's id",
            field="parent",
            fix="lower-case letters, digits and hyphens, a letter first",
        )
    if not _LOCATION.fullmatch(location):
        raise InvalidArgumentError(
            f"{location!r} is no location",
            field="parent",
            fix="lower-case letters, digits and hyphens, a letter first; `local` is usual",
        )


def check_repository_id(identifier: str) -> None:
    """See that *identifier* can be a repository's id.

    Raises:
        InvalidArgumentError: it cannot, and why.
    """
    if not identifier:
        raise InvalidArgumentError("a repository needs an id", field="repositoryId")
    if not _REPOSITORY_ID.fullmatch(identifier):
        raise InvalidArgumentError(
            f"{identifier!r} is no repository's id",
            field="repositoryId",
            why="an id has lower-case letters, digits and hyphens, begins with a letter, ends with a letter or digit, and has 63 at most",
        )


def check_labels(labels: dict[str, str]) -> None:
    """See that a resource can have these labels.

    Raises:
        InvalidArgumentError: they are too many, or one is not as Google's rules want it.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidArgumentError(
            f"{len(labels)} labels are too many", field="labels", why=f"{MAX_LABELS} at most"
        )
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise InvalidArgumentError(
                f"{key}={value} is no label",
                field=f"labels.{key}",
                why="keys and values have lower-case letters, digits, _ and -, 63 at most; a key begins with a letter",
            )
