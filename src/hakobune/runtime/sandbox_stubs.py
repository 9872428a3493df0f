"""Empty places made in a root file system for what a sandbox mounts there, and taken away again."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from hakobune.runtime import linux
from hakobune.runtime.sandbox_error import SandboxError
from hakobune.runtime.sandbox_plan import GivenFile, GivenMount
from hakobune.runtime.sandbox_tree import INSIDE, SandboxTree, closing

_LINKS = 40  # as many as the kernel follows (path_resolution(7))


@dataclass(frozen=True, slots=True)
class _Stub:
    """A place made for a mount, with the times that its folder had before and after."""

    path: str
    is_directory: bool
    before_ns: int
    after_ns: int


class Stubs:
    """The places made in one tree; nothing of them remains in its top after `remove`."""

    def __init__(self, tree: SandboxTree) -> None:
        self._tree = tree
        self._stubs: list[_Stub] = []

    def make(self, mounts: Sequence[GivenMount], files: Sequence[GivenFile]) -> None:
        """Make what is missing of the places of *mounts* and *files*, and of what every sandbox has.

        Raises:
            SandboxError: the links on the way to a place have no end.
        """
        for name in ("/proc", "/sys", "/dev"):
            self._make(name, is_directory=True)
        for given in mounts:
            self._make(given.target, is_directory=shows_directory(given))
        for file in files:
            self._make(file.target, is_directory=False)

    def _make(self, path: str, *, is_directory: bool, links: int = 0) -> None:
        """Make what is missing of *path*: folders, and at its end a folder or an empty file.

        A link that leads nowhere yet is followed, inside the root.
        """
        if path.startswith("/dev/"):
            return  # in a file system of its own, which pid 1 makes
        parts = path.strip("/").split("/")
        for number in range(1, len(parts) + 1):
            here = "/" + "/".join(parts[:number])
            try:
                os.close(self._tree.open(here, os.O_PATH))
                continue
            except FileNotFoundError:
                pass
            folder = is_directory or number < len(parts)
            parent, name = self._tree.open_parent(here)
            with closing(parent), self._tree.acting_as(0, 0):
                target = _link_target(parent, name)
                if target is not None:
                    if links == _LINKS:
                        raise SandboxError(f"{path} cannot be made", why="its links have no end")
                    place = posixpath.join(posixpath.dirname(here), target, *parts[number:])
                    place = posixpath.normpath(place)
                    self._make(place, is_directory=is_directory, links=links + 1)
                    return
                before = os.stat(f"/proc/self/fd/{parent}").st_mtime_ns
                if folder:
                    os.mkdir(name, 0o755, dir_fd=parent)
                else:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o644, dir_fd=parent))
                after = os.stat(f"/proc/self/fd/{parent}").st_mtime_ns
                self._stubs.append(_Stub(here, folder, before, after))

    def remove(self) -> None:
        """Take away those that are still empty; when nothing runs inside any more."""
        for stub in reversed(self._stubs):
            # An error: it is in use by now, a file with content or a folder with files.
            with contextlib.suppress(OSError):
                parent, name = self._tree.open_parent(stub.path)
                with closing(parent), self._tree.acting_as(0, 0):
                    found_ns = os.stat(f"/proc/self/fd/{parent}").st_mtime_ns
                    if stub.is_directory:
                        os.rmdir(name, dir_fd=parent)
                    elif not os.lstat(name, dir_fd=parent).st_size:
                        os.unlink(name, dir_fd=parent)
                    was_ns = stub.before_ns if found_ns == stub.after_ns else found_ns
                    os.utime(f"/proc/self/fd/{parent}", ns=(was_ns, was_ns))
        self._stubs.clear()


def _link_target(folder: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None  # no link, or nothing at all


def shows_directory(given: GivenMount) -> bool:
    """Whether what a mount shows is a folder, not a file."""
    shown = linux.openat2(given.fd, given.source.strip("/") or ".", os.O_PATH, resolve=INSIDE)
    try:
        return stat.S_ISDIR(os.fstat(shown).st_mode)
    finally:
        os.close(shown)
