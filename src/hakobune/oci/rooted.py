"""Folders below a root, reached by names from strangers, never outside of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from hakobune.oci.inflate import UnpackError

FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK_LIMIT: Final = 40  # the kernel's MAXSYMLINKS
_DEPTH_LIMIT: Final = 500

RootedPath: TypeAlias = tuple[bytes, ...]


class RootedFolders:
    """Open descriptors from the root down to the folder used last, each opened from the one above it.

    The kernel never follows a link here: a link on the way is read and resolved by its words, the root being the top.

    Args:
        make: called with the parent's descriptor and a name, to make a folder that a path needs and nobody made.
    """

    def __init__(self, root: Path, make: Callable[[int, bytes], None]) -> None:
        self._make = make
        self._stack = [(b"", os.open(root, FOLDER_FLAGS))]
        self._asked: RootedPath = ()

    def __enter__(self) -> RootedFolders:
        return self

    def __exit__(self, *error: object) -> None:
        self._close_to(0)

    @property
    def here(self) -> RootedPath:
        """Where the folder of the last `open` or `make` call really is."""
        return tuple(name for name, _ in self._stack[1:])

    def open(self, path: RootedPath, *, create: bool = True) -> int:
        """A descriptor on the folder *path*, valid until the next call.

        Args:
            create: make what is missing, a whiteout in the way included.

        Raises:
            UnpackError: something on the way is no folder, or is missing and not to be made.
        """
        if path != self._asked:
            self._asked = ()
            self._enter(path, create=create)
            self._asked = path
        return self._stack[-1][1]

    def forget(self) -> None:
        """Start from the root again: a folder was removed."""
        self._close_to(1)
        self._asked = ()

    def _enter(self, path: RootedPath, *, create: bool) -> None:
        shared = 0
        for (name, _), wanted in zip(self._stack[1:], path, strict=False):
            if name != wanted:
                break
            shared += 1
        self._close_to(1 + shared)
        left = list(reversed(path[shared:]))
        links = 0
        while left:
            name = left.pop()
            if name == b"..":  # only a link's target has it
                self._close_to(max(1, len(self._stack) - 1))
            elif name not in (b"", b".") and (target := self._step(name, create)) is not None:
                links += 1
                if links > _LINK_LIMIT:
                    raise UnpackError(f"{shown(path)} cannot be reached", why="its links go round")
                if target.startswith(b"/"):
                    self._close_to(1)
                left += reversed(target.split(b"/"))

    def _step(self, name: bytes, create: bool) -> bytes | None:
        """Go into *name*; if it is a link, stay and give its target."""
        parent = self._stack[-1][1]
        if len(self._stack) > _DEPTH_LIMIT:
            raise UnpackError("the layer is too deep", why=f"more than {_DEPTH_LIMIT} directories")
        descriptor = _open_folder(name, parent)
        if descriptor is None:
            if (target := _read_link(name, parent)) is not None:
                return target
            if not create:
                raise UnpackError(f"{shown((*self.here, name))} is not in the layer")
            self._make(parent, name)
            descriptor = os.open(name, FOLDER_FLAGS, dir_fd=parent)
        self._stack.append((name, descriptor))
        return None

    def _close_to(self, length: int) -> None:
        while len(self._stack) > length:
            os.close(self._stack.pop()[1])


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is a deleted file to overlayfs."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def shown(path: RootedPath) -> str:
    """A path for people."""
    return "/" + os.fsdecode(b"/".join(path))


def _open_folder(name: bytes, parent: int) -> int | None:
    """The folder *name*, or `None` if there is none of that name."""
    try:
        return os.open(name, FOLDER_FLAGS, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return None


def _read_link(name: bytes, parent: int) -> bytes | None:
    """The target of a link; `None` where there is nothing, or a whiteout.

    Raises:
        UnpackError: it is a file.
    """
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(name, dir_fd=parent)
    if is_whiteout(status):
        return None
    raise UnpackError(f"{os.fsdecode(name)!r} is a file and a directory in one layer")
