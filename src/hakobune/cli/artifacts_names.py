"""How people name repositories and images of this installation, and Artifact Registry's names of the same (pure)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from dataclasses import dataclass

from hakobune.errors import UsageError

DEFAULT_PROJECT = "hako"
DEFAULT_LOCATION = "local"

_PKG_DEV = re.compile(r"([a-z0-9-]+)[.-]docker\.pkg\.dev")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePath:
    """`HOST/PROJECT/REPOSITORY[/IMAGE][:TAG][@DIGEST]`, taken apart.

    Attributes:
        location: only where the host says it (`LOCATION-docker.pkg.dev`).
    """

    host: str
    project: str
    repository: str
    location: str | None = None
    image: str = ""
    tag: str = ""
    digest: str = ""

    @property
    def path(self) -> str:
        """HOST/PROJECT/REPOSITORY/IMAGE."""
        return "/".join(filter(None, (self.host, self.project, self.repository, self.image)))


def add_place(parser: argparse.ArgumentParser) -> None:
    """Declare `--project` and `--location`."""
    parser.add_argument("--project", default=None, metavar="ID", help=f"default: {DEFAULT_PROJECT}")
    parser.add_argument(
        "--location",
        default=None,
        metavar="NAME",
        help=f"default: where the repository is; {DEFAULT_LOCATION} for a new one",
    )


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Declare `--filter`: the API's own language."""
    parser.add_argument(
        "--filter",
        default="",
        metavar="EXPRESSION",
        help="only what it is true of: 'name=\"*/web-*\"'; AND, OR and NOT join several",
    )


def parse_image_path(text: str, *, hosts: Collection[str]) -> ImagePath:
    """Take apart what a person types for a repository, an image, a tag or a digest.

    Args:
        hosts: of this installation; its names at Google, `LOCATION-docker.pkg.dev`, are taken, too.

    Raises:
        UsageError: it is of another registry, or not complete.
    """
    name, at, digest = text.removeprefix("https://").removeprefix("http://").partition("@")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":") if head else (last, "", "")
    host, *parts = f"{head}{slash}{last}".rstrip("/").split("/")
    found = _PKG_DEV.fullmatch(host)
    if found is None and host not in hosts:
        raise _not_ours(text, host, hosts)
    if len(parts) < 2 or not all(parts):
        raise _incomplete(text, hosts)
    if at and not _DIGEST.fullmatch(digest):
        raise UsageError(f"{digest!r} is no digest", why="it is sha256: with 64 hex digits")
    if colon and not _TAG.fullmatch(tag):
        raise UsageError(
            f"{tag!r} is no tag",
            why="a tag has up to 128 letters, digits and . _ -, the first no . or -",
        )
    if (at or colon) and len(parts) < 3:
        raise _incomplete(text, hosts)
    return ImagePath(
        host=host,
        location=found[1] if found else None,
        project=parts[0],
        repository=parts[1],
        image="/".join(parts[2:]),
        tag=tag,
        digest=digest,
    )


def escape_id(text: str) -> str:
    """An image's name as a package's id."""
    return text.replace("/", "%2F")


def unescape_id(text: str) -> str:
    """A package's id as an image's name."""
    return text.replace("%2F", "/")


def package_name(repository: str, image: str) -> str:
    return f"{repository}/packages/{escape_id(image)}"


def short_id(name: str) -> str:
    """The last part of a resource's name, with the slashes that it stands for."""
    return unescape_id(name.rpartition("/")[2])


def _not_ours(text: str, host: str, hosts: Collection[str]) -> UsageError:
    first = next(iter(hosts))
    return UsageError(
        f"{text!r} is not in this installation's registry",
        why=f"{host!r} is another host" if host else "it names no host",
        fix=f"{first}/PROJECT/REPOSITORY/IMAGE, or LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE",
    )


def _incomplete(text: str, hosts: Collection[str]) -> UsageError:
    return UsageError(
        f"{text!r} is not complete",
        why="an image's name begins with host, project and repository",
        fix=f"{next(iter(hosts))}/PROJECT/REPOSITORY/IMAGE[:TAG|@DIGEST]",
    )
