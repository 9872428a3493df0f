"""How a place is written: a name in a registry, or skopeo's `TRANSPORT:PATH:NAME` (containers-transports.5)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakobune.errors import UsageError
from hakobune.oci.reference import Reference

FILES: Final = ("docker-archive", "oci-archive", "oci")
TRANSPORTS: Final = ("docker-daemon", *FILES)
# Of other tools; a name that begins so is meant, and not understood.
_FOREIGN: Final = ("containers-storage", "dir", "ostree", "sif", "docker-tar", "tarball")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image is, or shall go.

    Args:
        transport: `docker` (a registry), or one of `TRANSPORTS`.
        name: what it is called there; in a file it may be missing.
        path: of a file or folder.
    """

    transport: str
    name: str
    path: Path | None = None

    @property
    def is_registry(self) -> bool:
        return self.transport == "docker"

    @property
    def reference(self) -> Reference:
        """The name in full.

        Raises:
            ReferenceFormatError: it is none.
        """
        return Reference.parse(self.name)

    def __str__(self) -> str:
        parts = (self.transport, os.fspath(self.path or ""), self.name)
        return self.name if self.is_registry else ":".join(filter(None, parts))


def parse_place(text: str) -> Place:
    """Read a place; without a transport it is a name in a registry.

    Raises:
        UsageError: another tool's transport, or one without what it needs.
    """
    if text.startswith("docker://"):
        return Place("docker", text.removeprefix("docker://"))
    transport, colon, rest = text.partition(":")
    if not colon or transport not in (*TRANSPORTS, *_FOREIGN):
        return Place("docker", text)
    known = f"docker://NAME, docker-daemon:NAME, {', '.join(f'{t}:PATH:NAME' for t in FILES)}"
    if transport in _FOREIGN:
        raise UsageError(f"{text!r} is no place that hako knows", fix=f"use one of {known}")
    if transport == "docker-daemon":
        if not rest:
            raise UsageError(f"{text!r} names no image", fix="docker-daemon:NAME")
        return Place(transport, rest)
    path, _, name = rest.partition(":")
    if not path:
        raise UsageError(
            f"{text!r} names no file", fix=f"{transport}:PATH, or {transport}:PATH:NAME"
        )
    return Place(transport, name, Path(path))
