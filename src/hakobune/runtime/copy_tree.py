"""Copies files and folders between places, by descriptors: no link that lies in the way is ever followed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hakobune.runtime.file_place import CopyError, Place, remove_file

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_HELD = 200  # files with several names, kept open to be linked to


class TreeCopy:
    """One run from *source* to *target*.

    Args:
        keep_owners: files belong to whom they belonged; else to root in a container, to us on this machine.
        leave_out: called with the path of what cannot be copied: sockets and devices.
    """

    def __init__(
        self,
        source: Place,
        target: Place,
        *,
        keep_owners: bool,
        leave_out: Callable[[str], None],
    ) -> None:
        self._source = source
        self._target = target
        self._keep_owners = keep_owners
        self._leave_out = leave_out
        self._linked: dict[tuple[int, int], int] = {}

    def close(self) -> None:
        for fd in self._linked.values():
            os.close(fd)
        self._linked.clear()

    def copy(self, at: int, name: str, to: int, new_name: str, path: str) -> None:
        """Copy the entry *name* of the folder *at* as *new_name* of the folder *to*; *path* is for errors.

        Raises:
            CopyError: something of another kind is in the way.
            OSError: it cannot be read or written; what was copied before stays.
        """
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            with _opened(name, at) as below:
                self._copy_folder(below, status, to, new_name, path)
        elif stat.S_ISREG(status.st_mode):
            self._copy_file(at, name, to, new_name, path)
        elif stat.S_ISLNK(status.st_mode):
            text = os.readlink(name, dir_fd=at)
            self._replace(to, new_name, path)
            with self._target.making():
                os.symlink(text, new_name, dir_fd=to)
                self._finish(to, new_name, status)
        elif stat.S_ISFIFO(status.st_mode):
            self._replace(to, new_name, path)
            with self._target.making():
                os.mkfifo(new_name, 0o600, dir_fd=to)
                self._finish(to, new_name, status)
        else:
            self._leave_out(path)

    def merge(self, at: int, to: int, path: str) -> None:
        """Copy what is in the folder *at* into the folder *to*."""
        if not self._source.has_files(at):
            return
        with os.scandir(at) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            self.copy(at, name, to, name, f"{path.rstrip('/')}/{name}")

    def make_folder(self, to: int, name: str, like: os.stat_result) -> None:
        """A folder with what is known of another one."""
        with self._target.making():
            os.mkdir(name, 0o700, dir_fd=to)
            self._finish(to, name, like)

    def date_folder(self, to: int, name: str, like: os.stat_result) -> None:
        """What came into it has changed its time."""
        with self._target.making():
            times = (like.st_atime_ns, like.st_mtime_ns)
            os.utime(name, ns=times, dir_fd=to, follow_symlinks=False)

    def _copy_folder(self, at: int, status: os.stat_result, to: int, name: str, path: str) -> None:
        there = _mode(to, name)
        if there is None:
            self.make_folder(to, name, status)
        elif not stat.S_ISDIR(there):
            raise CopyError(
                f"cannot copy the folder {path}", why="something else has its name", fix=""
            )
        with _opened(name, to) as below:
            self.merge(at, below, path)
        self.date_folder(to, name, status)

    def _copy_file(self, at: int, name: str, to: int, new_name: str, path: str) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        source = os.open(name, flags, dir_fd=at)
        try:
            status = os.fstat(source)
            self._replace(to, new_name, path)
            first = self._linked.get((status.st_dev, status.st_ino))
            with self._target.making():
                if first is not None:
                    os.link(f"/proc/self/fd/{first}", new_name, dst_dir_fd=to, follow_symlinks=True)
                    return
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                target = os.open(new_name, flags, 0o600, dir_fd=to)
                try:
                    _copy_bytes(source, target)
                    if status.st_nlink > 1 and len(self._linked) < _MOST_HELD:
                        self._linked[status.st_dev, status.st_ino] = os.dup(target)
                finally:
                    os.close(target)
                self._finish(to, new_name, status)
        finally:
            os.close(source)

    def _replace(self, to: int, name: str, path: str) -> None:
        """Take away the file or link that has the name."""
        if _mode(to, name) is None:
            return
        with self._target.making():
            remove_file(to, name, path)

    def _finish(self, to: int, name: str, status: os.stat_result) -> None:
        """Owner first: a change of it takes setuid bits away."""
        if self._keep_owners:
            ids = self._target.owner(*self._source.inner_owner(status.st_uid, status.st_gid))
            os.chown(name, *ids, dir_fd=to, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            mode = stat.S_IMODE(status.st_mode)
            if (
                not self._keep_owners
            ):  # a program that runs as its owner must not run as another one
                mode &= ~(stat.S_ISUID | stat.S_ISGID)
            _change_mode(to, name, mode)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=to, follow_symlinks=False)


def _copy_bytes(source: int, target: int) -> None:
    offset = 0
    try:
        while sent := os.sendfile(target, source, offset, 1 << 30):
            offset += sent
    except OSError as error:
        if error.errno != errno.EINVAL:  # what the kernel makes up as it is read (/proc)
            raise
        with open(target, "wb", closefd=False) as file:
            while data := os.read(source, 1 << 20):
                file.write(data)


def _change_mode(to: int, name: str, mode: int) -> None:
    """By descriptor: a program in the container may have put a link in its place."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=to)
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


def _mode(folder: int, name: str) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    return None


@contextmanager
def _opened(name: str, at: int) -> Iterator[int]:
    fd = os.open(name or ".", _DIRECTORY, dir_fd=at)
    try:
        yield fd
    finally:
        os.close(fd)
