"""A source folder that an image is built from: its project descriptor and the rules of what belongs to it.

Nothing in it is written to, and no link in it is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

import msgspec

from hakobune.buildpack.project import Project, parse_project
from hakobune.builds.ignore import Rules
from hakobune.errors import HakoError

PROJECT_DESCRIPTOR: Final = "project.toml"


class SourceError(HakoError):
    """The source folder cannot be taken."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A source folder, and what of it is to be taken."""

    root: Path
    project: Project
    rules: Rules


def open_source(path: Path, descriptor: Path | None = None) -> Source:
    """Look at a source folder.

    Args:
        descriptor: another project descriptor than the folder's own `project.toml`.

    Raises:
        SourceError: there is no such folder, or it cannot be read.
        DocumentError, HakoError: the project descriptor is wrong.
    """
    root = Path(os.path.abspath(path))
    try:
        status = os.stat(root)
    except OSError as error:
        raise SourceError(
            f"cannot build {root}",
            why="there is no such folder" if error.errno == errno.ENOENT else reason_of(error),
            fix="check the path",
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise SourceError(
            f"cannot build {root}", why="it is not a folder", fix="name the folder that holds it"
        )
    project = _read_project(descriptor or root / PROJECT_DESCRIPTOR, must_exist=bool(descriptor))
    return Source(root=root, project=project, rules=Rules.of(root, project))


def unreadable(path: Path | str, error: OSError) -> SourceError:
    """What is said of a part that cannot be read."""
    return SourceError(
        f"cannot read {path}",
        why=reason_of(error),
        fix="make it readable, or leave it out (.gitignore, project.toml)",
    )


def reason_of(error: OSError) -> str:
    """In a few words."""
    return (error.strerror or str(error)).lower()


def _read_project(path: Path, *, must_exist: bool) -> Project:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if not must_exist:
            return Project()
        raise SourceError(
            f"cannot read {path}", why="there is no such file", fix="check the path"
        ) from None
    except OSError as error:
        raise SourceError(f"cannot read {path}", why=reason_of(error)) from error
    return parse_project(data, name=str(path))
