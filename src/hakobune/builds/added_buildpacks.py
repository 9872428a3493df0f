"""Buildpacks that a request names: from the builder by id, or a folder that is laid over the builder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from hakobune.buildpack.descriptor import (
    Buildpack,
    GroupElement,
    Order,
    OrderGroup,
    parse_buildpack,
)
from hakobune.buildpack.order import Catalog
from hakobune.errors import HakoError
from hakobune.oci.digest import Digest

_DESCRIPTOR: Final = "buildpack.toml"
_NOT_SHIPPED: Final = frozenset({"tests", "__pycache__", ".git"})


class Chosen(msgspec.Struct, frozen=True):
    """The order to use, with the folders that have to be laid over the builder."""

    order: Order
    catalog: Catalog
    folders: tuple[tuple[Buildpack, Path], ...] = ()

    def digest(self) -> str:
        """What the added folders hold, empty if there are none."""
        parts = [
            f"{path.relative_to(root)} {path.stat().st_mode & 0o111:o} {Digest.of(path.read_bytes())}"
            for _, root in self.folders
            for path in _files(root)
        ]
        return str(Digest.of("\n".join(parts).encode())) if parts else ""


def choose_buildpacks(names: Sequence[str], order: Order, catalog: Catalog) -> Chosen:
    """The builder's order, or the one group that *names* make: `id`, `id@version`, `from=builder`, a folder.

    Raises:
        HakoError: a name is neither a folder with a buildpack nor in the builder.
    """
    if not names:
        return Chosen(order, catalog)
    orders: list[Order] = [(OrderGroup(group=()),)]
    folders: list[tuple[Buildpack, Path]] = []
    for name in names:
        if name in ("from=builder", "urn:cnb:builder"):
            orders.append(order)
            continue
        folder = Path(name)
        if (folder / _DESCRIPTOR).is_file():
            path = folder / _DESCRIPTOR
            buildpack = parse_buildpack(path.read_bytes(), name=str(path))
            folders.append((buildpack, Path(os.path.abspath(folder))))
            element = GroupElement(id=buildpack.id, version=buildpack.version)
        else:
            element = _from_builder(name, catalog)
        orders.append((OrderGroup(group=(element,)),))
    combined = orders[0]
    for alternatives in orders[1:]:
        combined = tuple(
            OrderGroup(group=(*left.group, *right.group))
            for left in combined
            for right in alternatives
        )
    known = Catalog({**catalog.buildpacks, **{(b.id, b.version): b for b, _ in folders}})
    return Chosen(combined, known, tuple(folders))


def stage_buildpacks(chosen: Chosen, tree: Path) -> None:
    """Put the added folders where the builder has its buildpacks, below *tree*."""
    for buildpack, folder in chosen.folders:
        target = tree / buildpack.directory[1:]
        for path in _files(folder):
            place = target / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
            place.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    for directory, _, _ in os.walk(tree):
        os.chmod(directory, 0o755)


def _from_builder(name: str, catalog: Catalog) -> GroupElement:
    id_, _, version = name.removeprefix("urn:cnb:builder:").partition("@")
    versions = catalog.versions(id_)
    if not versions or (version and version not in versions):
        have = ", ".join(sorted(f"{i}@{v}" for i, v in catalog.buildpacks)) or "none"
        raise HakoError(
            f"there is no buildpack {name!r}",
            why=f"it is no folder with a {_DESCRIPTOR}, and the builder has {have}",
            fix="name a folder, or one of the builder's",
        )
    return GroupElement(id=id_, version=version or max(versions))


def _files(root: Path) -> list[Path]:
    found = []
    for directory, names, files in os.walk(root):
        names[:] = sorted(set(names) - _NOT_SHIPPED)
        found += [Path(directory, file) for file in sorted(files)]
    return [path for path in found if path.is_file()]
