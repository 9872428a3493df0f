"""What a `--mount=type=bind` shows: found, digested for the key, or copied for a sandbox."""

from __future__ import annotations

import os
from pathlib import Path

from hakobune.dockerfile.copy_into import Copier, Owner, Source
from hakobune.dockerfile.errors import DockerfileError
from hakobune.dockerfile.instructions import Position
from hakobune.dockerfile.source_tree import SourceMissingError, SourceTree
from hakobune.dockerfile.workshop import Workshop


def digest_in_context(workshop: Workshop, path: str, at: Position) -> str:
    """Of what the build context has at *path*.

    Raises:
        DockerfileError: it has nothing there.
    """
    return workshop.context.digest((_find(workshop.context, path, "the build context", at),))


def digest_in_stage(workshop: Workshop, name: str, path: str, at: Position) -> str:
    """Of what a stage or image has at *path*.

    Raises:
        DockerfileError: it has nothing there.
    """
    with workshop.open_tree(name) as tree:
        return tree.digest((_find(tree, path, f"the stage or image {name!r}", at),))


def copy_from_context(workshop: Workshop, path: str, into: Path, at: Position) -> Path:
    """Copy what the context has at *path* to the same place below *into*, as root's; gives *into*.

    The context itself is not mounted: its files have owners of this machine, and those that the ignore file leaves out.

    Raises:
        DockerfileError: it has nothing there.
    """
    source = _find(workshop.context, path, "the build context", at)
    into.mkdir(parents=True)
    into.chmod(0o755)
    root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        Copier(root, owner=Owner(0, 0), attributes=False).copy(source, "/" + path.strip("/"))
    finally:
        os.close(root)
    return into


def _find(tree: SourceTree, path: str, place: str, at: Position) -> Source:
    try:
        return tree.select_path(path or "/")
    except SourceMissingError as error:
        raise DockerfileError(
            f"--mount=type=bind,source={path}: {error.what}",
            file=at.file,
            line=at.line,
            why=f"{place} has no such file",
            fix="check source=",
        ) from error
