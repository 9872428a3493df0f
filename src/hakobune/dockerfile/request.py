"""What a build from a Dockerfile is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hakobune.errors import UsageError
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference

if TYPE_CHECKING:  # a build without an agent does without its module
    from hakobune.dockerfile.ignore_file import IgnoreFile
    from hakobune.dockerfile.ssh_agent import Agent


# The last second of the year 9999: RFC 3339 has no later ones.
_LAST_SECOND = 253_402_300_799


def parse_epoch(text: str, place: str) -> int:
    """Seconds since 1970.

    Args:
        place: what stands before the number, for the message.

    Raises:
        UsageError: it is no such time.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= _LAST_SECOND):
        raise UsageError(
            f"{place}{text} is no time",
            why="it takes seconds since 1970, up to the year 9999",
            fix=f"{place}$(date +%s), or $(git log -1 --format=%ct)",
        )
    return int(text)


@dataclass(frozen=True, slots=True)
class FolderContext:
    """A folder, without what its `.dockerignore` leaves out."""

    path: Path


@dataclass(frozen=True, slots=True)
class ImageContext:
    """An image, from here or from its registry."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class LayoutContext:
    """An image in an OCI layout: by the tag it has there, by digest, or the only one."""

    path: Path
    tag: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class EmptyContext:
    """`docker-image://scratch`."""


@dataclass(frozen=True, slots=True)
class RemoteContext:
    """The files of a git repository; or the file of a URL, by the name `context`, as BuildKit has it."""

    url: str


NamedContext = FolderContext | ImageContext | LayoutContext | EmptyContext | RemoteContext


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileRequest:
    """One build.

    Attributes:
        context: the folder that COPY and ADD read.
        dockerfile: the file's path; its text is `text` if that is given (stdin, or a context from elsewhere).
        ignore: what of the context does not exist; `None`: what its ignore file says.
        target: the stage to build; empty: the last one.
        args: `--build-arg`.
        assured: those that every build of this file is given: it needs no defaults for them.
        secrets: by id. The values go nowhere but into the RUNs that mount them.
        contexts: `--build-context`, by name: read instead of images and stages of these names.
        ssh: agents, by id, that RUNs may ask.
        names: of the image; may be empty.
        pull: whether base images are asked for at their registries: what is missing, always, never.
        network: of RUNs that do not say.
        labels: added to the image's.
        epoch: the time of the image, its history and what its layers add (seconds since 1970); `None`: the real one.
        env: the caller's environment, for git and ssh alone (`ADD` of a repository).
    """

    context: Path
    dockerfile: Path
    text: str | None = None
    ignore: IgnoreFile | None = None
    target: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    assured: frozenset[str] = frozenset()
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    contexts: Mapping[str, NamedContext] = field(default_factory=dict)
    ssh: Mapping[str, Agent] = field(default_factory=dict)
    platform: Platform
    names: tuple[Reference, ...] = ()
    no_cache: bool = False
    pull: Literal["missing", "always", "never"] = "missing"
    network: Literal["default", "none"] = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    epoch: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
