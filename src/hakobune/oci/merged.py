"""Reading a stack of overlayfs directories as overlayfs merges them: whiteouts, opaque directories, redirects.

Pure reading of paths, without a mount. What makes the changes is `layer_change`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

# `trusted.` with privileges, `user.` in a user namespace (mount option userxattr).
XATTR_SPACES = ("trusted.overlay.", "user.overlay.")
_NO_XATTR = (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM)


class Shown(msgspec.Struct, frozen=True):
    """What a stack shows under one name."""

    path: str
    status: os.stat_result
    # For a directory: the directories merged into it, uppermost first. Else empty.
    merged: tuple[str, ...] = ()

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


def is_whiteout(status: os.stat_result) -> bool:
    """Whether the entry hides a name of the layers below (a character device 0:0)."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: str) -> bool:
    """Whether the directory hides what lies under it in the layers below."""
    return overlay_xattr(directory, "opaque") == b"y"


def redirect_of(directory: str) -> str | None:
    """Where the layers below have this directory: a name beside it, or an absolute path; `None` if at its own path."""
    value = overlay_xattr(directory, "redirect")
    return None if value is None else os.fsdecode(value)


def overlay_xattr(path: str, name: str) -> bytes | None:
    """An attribute by which overlayfs marks a file or directory; `None` if it has none."""
    for space in XATTR_SPACES:
        try:
            return os.getxattr(path, space + name, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_XATTR:
                raise
    return None


def is_image_xattr(name: str) -> bool:
    """Whether an attribute belongs to an image: file capabilities and `user.*`, never an overlay's own."""
    return name == "security.capability" or (name.startswith("user.") and ".overlay." not in name)


def look_up(directories: Sequence[str], name: str) -> Shown | None:
    """What merged *directories* (uppermost first) show under *name*; `None` if nothing."""
    first: tuple[str, os.stat_result] | None = None
    merged: list[str] = []
    for directory in directories:
        path = f"{directory}/{name}"
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if is_whiteout(status):
            break
        if not stat.S_ISDIR(status.st_mode):
            if first is None:
                return Shown(path, status)
            break
        first = first or (path, status)
        merged.append(path)
        if is_opaque(path):
            break
    return None if first is None else Shown(*first, tuple(merged))


def find(trees: Sequence[Path | str], path: str) -> Shown | None:
    """What stacked *trees* (uppermost first) show at *path*, relative to them. Symbolic links are not followed."""
    directories = tuple(str(tree) for tree in trees)
    shown: Shown | None = None
    for name in path.split("/"):
        shown = look_up(directories, name)
        if shown is None:
            return None
        directories = shown.merged
    return shown


def names_in(directories: Sequence[str]) -> Iterator[str]:
    """The names that merged *directories* show, sorted."""
    seen: dict[str, bool] = {}
    for directory in directories:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name not in seen:
                    # `is_file` and the like come with the listing; only devices need a stat.
                    plain = entry.is_file(follow_symlinks=False) or entry.is_dir(
                        follow_symlinks=False
                    )
                    seen[entry.name] = not (
                        not plain and is_whiteout(entry.stat(follow_symlinks=False))
                    )
    return (name for name in sorted(seen) if seen[name])
