"""Turning what a top holds into what really changed (facts/overlay.md, Rules 5 and 10).

The overlay must be gone: these functions rewrite the top.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from hakobune.oci.merge import copy_entry, fill, link_or_copy, times_kept
from hakobune.oci.merged import (
    XATTR_SPACES,
    Shown,
    find,
    is_opaque,
    is_whiteout,
    look_up,
    names_in,
    redirect_of,
)
from hakobune.oci.seal import SEALED_NS
from hakobune.oci.settle import have_equal_bytes, is_own_path, metadata_difference

Inode = tuple[int, int]


def mark_opaque(directory: str) -> None:
    """Hide what the layers below have at this directory."""
    try:
        os.setxattr(directory, "trusted.overlay.opaque", b"y", follow_symlinks=False)
    except PermissionError:
        os.setxattr(directory, "user.overlay.opaque", b"y", follow_symlinks=False)


def drop_mark(directory: str, name: str) -> None:
    """Remove an overlay attribute, if it is there."""
    for space in XATTR_SPACES:
        if space + name in os.listxattr(directory, follow_symlinks=False):
            os.removexattr(directory, space + name, follow_symlinks=False)


class Redirects(msgspec.Struct, frozen=True):
    """Resolves directories that were moved: their content is linked in, the redirect goes.

    Args:
        lowers: everything that was mounted under the top, uppermost first.
        shareable: directories whose files may get further names (kept layers); from elsewhere files are copied, since
            sealing would change the image or the source copy that they belong to.
    """

    lowers: Sequence[Path]
    shareable: Collection[str]

    def resolve(self, directory: str, path: str, below: Sequence[str]) -> None:
        """Resolve every redirect under *directory*, which is at *path* (with a leading slash) in the root.

        Args:
            below: the directories that the layers below merge into *directory*.
        """
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                self._resolve_entry(entry.path, f"{path}/{entry.name}", entry.name, below)

    def _resolve_entry(self, directory: str, path: str, name: str, below: Sequence[str]) -> None:
        redirect = redirect_of(directory)
        if is_own_path(redirect, path):
            if redirect is not None:
                drop_mark(directory, "redirect")
            shown = None if is_opaque(directory) else look_up(below, name)
            self.resolve(directory, path, _directories(shown))
            return
        assert redirect is not None
        origin = _directories(self._origin(redirect, below))
        self.resolve(directory, path, origin)
        fill(directory, origin, self._share)
        drop_mark(directory, "redirect")
        mark_opaque(directory)

    def _origin(self, redirect: str, below: Sequence[str]) -> Shown | None:
        if redirect.startswith("/"):
            return find(self.lowers, redirect.strip("/"))
        return look_up(below, redirect)

    def _share(self, source: str, target: str) -> None:
        if any(source.startswith(f"{tree}/") for tree in self.shareable):
            link_or_copy(source, target)
        else:
            copy_entry(source, target)


def _directories(shown: Shown | None) -> tuple[str, ...]:
    return shown.merged if shown is not None else ()


class EqualCopies(msgspec.Struct):
    """Drops files of a top that equal what lies below, or makes them links to it where it does not show through.

    Attributes:
        launch: equality is of bytes; else equal times are enough, and equal bytes with another time set that time.
        originals: the inode of each equal copy that has several names, with the file below that it equals.
        newer: files below whose copy had the same bytes and a newer time, with that time in nanoseconds.
    """

    launch: bool
    originals: dict[Inode, str] = msgspec.field(default_factory=dict)
    newer: dict[str, int] = msgspec.field(default_factory=dict)
    _known: dict[tuple[int, int], bool] = msgspec.field(default_factory=dict)

    def drop(
        self, directory: str, below: Sequence[str], *, hidden: bool, covered: bool = False
    ) -> None:
        """Work through *directory*.

        Args:
            below: the directories that the layers below merge at this place.
            hidden: they are no part of what the top shows here: something on the way is opaque.
            covered: something on the way stays opaque, so what is dropped would not show through.
        """
        if hidden and not covered:
            covered = self._settle_mark(directory, below)
        with times_kept(directory):
            self._drop_entries(directory, below, hidden, covered)

    def _drop_entries(
        self, directory: str, below: Sequence[str], hidden: bool, covered: bool
    ) -> None:
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            status = entry.stat(follow_symlinks=False)
            shown = look_up(below, entry.name)
            if is_whiteout(status):
                if shown is None or covered:
                    os.unlink(entry.path)
            elif shown is None:
                continue
            elif entry.is_dir(follow_symlinks=False):
                if shown.is_directory:
                    self._drop_directory(entry.path, status, shown, hidden, covered)
            elif self._is_equal(entry.path, status, shown):
                if covered:
                    replace_by_link(shown.path, entry.path)
                else:
                    os.unlink(entry.path)

    def _settle_mark(self, directory: str, below: Sequence[str]) -> bool:
        """Mark a hidden directory opaque if it hides something, else let the layers below show; gives which."""
        present = set(os.listdir(directory))
        if all(name in present for name in names_in(below)):
            drop_mark(directory, "opaque")
            return False
        mark_opaque(directory)
        return True

    def _drop_directory(
        self, path: str, status: os.stat_result, shown: Shown, hidden: bool, covered: bool
    ) -> None:
        hidden = hidden or is_opaque(path)
        self.drop(path, shown.merged, hidden=hidden, covered=covered)
        if (
            covered
            or is_opaque(path)
            or metadata_difference(status, shown.status, launch=self.launch)
        ):
            return
        if not os.listdir(path):
            os.rmdir(path)

    def _is_equal(self, path: str, status: os.stat_result, shown: Shown) -> bool:
        if metadata_difference(status, shown.status, launch=self.launch):
            return False
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(path) == os.readlink(shown.path)
        if not stat.S_ISREG(status.st_mode):
            return False
        same_time = status.st_mtime_ns == shown.status.st_mtime_ns
        if not (same_time and not self.launch) and not self._has_equal_bytes(path, status, shown):
            return False
        if not self.launch and not same_time and shown.status.st_mtime_ns != SEALED_NS:
            self.newer[shown.path] = status.st_mtime_ns
        if status.st_nlink > 1:
            self.originals[status.st_dev, status.st_ino] = shown.path
        return True

    def _has_equal_bytes(self, path: str, status: os.stat_result, shown: Shown) -> bool:
        key = (status.st_ino, shown.status.st_ino)
        if key not in self._known:
            self._known[key] = have_equal_bytes(path, shown.path)
        return self._known[key]


def note_originals(directory: str, below: Sequence[str], originals: dict[Inode, str]) -> None:
    """For a layer known to be unchanged: note which file below each copy with several names equals."""
    for entry in os.scandir(directory):
        shown = look_up(below, entry.name)
        if shown is None:
            continue
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            note_originals(entry.path, shown.merged, originals)
        elif stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            originals[status.st_dev, status.st_ino] = shown.path


def link_to_originals(directory: str, originals: dict[Inode, str]) -> None:
    """Replace further names of equal copies (in whatever layer) by links to what the copies equal."""
    with times_kept(directory):
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                link_to_originals(entry.path, originals)
            elif original := originals.get((status.st_dev, status.st_ino)):
                replace_by_link(original, entry.path)


def replace_by_link(source: str, path: str) -> None:
    """Make *path* another name of *source*."""
    folder = path.rpartition("/")[0]
    temporary = f"{folder}/.hako-{os.urandom(6).hex()}"
    link_or_copy(source, temporary)
    os.rename(temporary, path)
    # rename(2) of two names of one file leaves both.
    if os.path.lexists(temporary):
        os.unlink(temporary)
