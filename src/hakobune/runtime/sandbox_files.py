"""The files of a sandbox as its owner reads and writes them, before, between and after what runs inside."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from dataclasses import dataclass

from hakobune.runtime.sandbox_error import SandboxError
from hakobune.runtime.sandbox_tree import SandboxTree, closing

LARGEST_FILE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory of the sandbox; a link to a directory is not one."""

    name: str
    is_directory: bool


class SandboxFiles:
    """Files by their paths inside. Ids given and seen are those inside; on disk lie the same."""

    def __init__(self, tree: SandboxTree) -> None:
        self._tree = tree

    def read_file(self, path: str) -> bytes | None:
        """A regular file's contents; `None` if there is none at *path*.

        Raises:
            SandboxError: it is larger than any document that buildpacks write; memory is not theirs to fill.
        """
        try:
            fd = self._tree.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                return None
            raise
        with closing(fd):
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return None
            if status.st_size > LARGEST_FILE_BYTES:
                raise SandboxError(
                    f"{path} is too large to be read", why=f"it has {status.st_size} bytes"
                )
            with open(fd, "rb", closefd=False) as file:
                return file.read(LARGEST_FILE_BYTES)

    def write_file(self, path: str, data: bytes, *, mode: int, uid: int, gid: int) -> None:
        """Put a file at *path*, in a directory that exists; what was there is replaced, not followed."""
        parent, name = self._tree.open_parent(path)
        with closing(parent), self._tree.acting_as(uid, gid):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)

    def make_directory(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        """Make a directory and its missing parents; one that is there stays as it is."""
        made = ""
        for part in path.strip("/").split("/"):
            parent = self._tree.open(made or "/", os.O_PATH | os.O_DIRECTORY)
            with closing(parent), self._tree.acting_as(uid, gid):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=parent)
                    # By descriptor: whoever puts a link here meanwhile must not choose whose mode changes.
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                    directory = os.open(part, flags, dir_fd=parent)
                    with closing(directory):
                        os.fchmod(directory, mode)
            made = f"{made}/{part}"
        # A file in its place is an error.
        os.close(self._tree.open(made, os.O_PATH | os.O_DIRECTORY))

    def list_directory(self, path: str) -> tuple[Entry, ...] | None:
        """What is in a directory, sorted by name; `None` if there is no directory at *path*."""
        try:
            fd = self.open_directory(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        with closing(fd), os.scandir(fd) as entries:
            found = [Entry(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        return tuple(sorted(found, key=lambda entry: entry.name))

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with all that is in it; nothing there is fine."""
        try:
            parent, name = self._tree.open_parent(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        with closing(parent), self._tree.acting_as(0, 0):
            try:
                mode = os.lstat(name, dir_fd=parent).st_mode
            except FileNotFoundError:
                return
            if stat.S_ISDIR(mode):
                shutil.rmtree(name, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)

    def rename(self, old: str, new: str) -> None:
        """Rename within the sandbox; what was at *new* is gone.

        Raises:
            FileNotFoundError: nothing is at *old*; *new* is as it was.
        """
        if old.rstrip("/") == new.rstrip("/"):
            return
        old_parent, old_name = self._tree.open_parent(old)
        with closing(old_parent):
            os.lstat(old_name, dir_fd=old_parent)
            self.remove(new)
            new_parent, new_name = self._tree.open_parent(new)
            with closing(new_parent), self._tree.acting_as(0, 0):
                os.rename(old_name, new_name, src_dir_fd=old_parent, dst_dir_fd=new_parent)

    def open_directory(self, path: str) -> int:
        """A descriptor of a directory, good until `close`, also after `kill_processes`; the caller closes it."""
        return self._tree.open(path, os.O_RDONLY | os.O_DIRECTORY)
