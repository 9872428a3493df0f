"""The merged root file system of a sandbox, opened through its detached mount: no path leads out of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from hakobune.runtime import linux

INSIDE = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS


class SandboxTree:
    """Descriptors of what lies in a detached mount; paths are absolute inside, ids are those inside.

    Attributes:
        fd: of the mount, which it takes over; -1 when it is closed.
    """

    def __init__(self, fd: int, *, base: int) -> None:
        """Take *fd* over; *base* is the id on the host that is root inside."""
        self.fd = fd
        self._base = base

    def open(self, path: str, flags: int) -> int:
        """A descriptor, which the caller closes; links are followed inside."""
        return linux.openat2(self.fd, path.strip("/") or ".", flags, resolve=INSIDE)

    def open_parent(self, path: str) -> tuple[int, str]:
        """The folder of an entry, which the caller closes, and the entry's name in it.

        Raises:
            ValueError: *path* names no entry of a folder: it is the root, or ends in dots.
        """
        parent, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise ValueError(f"{path!r} names no entry of a directory")
        return self.open(parent or "/", os.O_PATH | os.O_DIRECTORY), name

    def acting_as(self, uid: int, gid: int) -> contextlib.AbstractContextManager[None]:
        """Within it, this thread makes files as that user of the sandbox."""
        return linux.filesystem_ids(self._base + uid, self._base + gid)

    def close(self) -> None:
        """Give the mount up. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@contextmanager
def closing(fd: int) -> Iterator[None]:
    """Close the descriptor at the end."""
    try:
        yield
    finally:
        os.close(fd)
