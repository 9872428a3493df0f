"""Where files are copied from and to: this machine, or the inside of a container."""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from hakobune.errors import HakoError

_MOST_LINKS = 40
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class CopyError(HakoError):
    """Files cannot be copied from or to where they shall be."""


@dataclass(slots=True)
class Spot:
    """A name in a folder that exists, with what is there now. Close it.

    Args:
        name: empty for the folder itself.
        status: `None`: nothing is there.
    """

    folder: int
    name: str
    status: os.stat_result | None

    @property
    def is_directory(self) -> bool:
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    def close(self) -> None:
        os.close(self.folder)

    def open_directory(self) -> int:
        """A descriptor for reading the directory that is there; the caller closes it."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.name or ".", flags, dir_fd=self.folder)


def remove_file(folder: int, name: str, path: str) -> None:
    """Take a file or link away for something else to have its name.

    Raises:
        CopyError: it is neither: nobody means to lose /dev/null. Or something is mounted on it: the kernel would
            unmount that, since we are in another mount namespace.
    """
    mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise CopyError(
            f"cannot copy {path}",
            why=f"{_kind(mode)} has its name, and is not replaced",
            fix="choose another name, or remove it first",
        )
    if mount_of(folder, ".") != mount_of(folder, name):
        raise CopyError(
            f"cannot copy {path}",
            why="something is mounted where it shall go: a volume, or a file that every container gets",
            fix="copy to where the volume comes from",
        )
    os.unlink(name, dir_fd=folder)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")


def mount_of(folder: int, name: str) -> str:
    """The number of the mount that *name* is on."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
            return next(line.split()[1] for line in lines if line.startswith("mnt_id:"))
    finally:
        os.close(fd)


class Place(ABC):
    """A tree of files.

    Attributes:
        name: of the container; empty for this machine.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def open(self, path: str, flags: int) -> int:
        """A descriptor; links are followed as they are there."""

    def has_files(self, folder: int) -> bool:
        """Whether what is in a folder there is meant when the folder is copied."""
        return True

    @abstractmethod
    def making(self) -> AbstractContextManager[None]:
        """Within it, this thread makes files there as their root."""

    @abstractmethod
    def owner(self, uid: int, gid: int) -> tuple[int, int]:
        """Our ids for those that are meant there."""

    @abstractmethod
    def inner_owner(self, uid: int, gid: int) -> tuple[int, int]:
        """What our ids are there."""

    def show(self, path: str) -> str:
        """*path* as it is written on the command line."""
        return f"{self.name}:{path}" if self.name else path

    def find(self, path: str, *, follow: bool) -> Spot:
        """Where *path* leads; its last part need not be there.

        Args:
            follow: the last part, too, is followed if it is a link.

        Raises:
            CopyError: the folder that it is in is not there.
        """
        for _ in range(_MOST_LINKS):
            parent, name = _split(path)
            try:
                folder = self.open(parent, _FOLDER)
            except OSError as error:
                raise self._refused(path, parent, error) from error
            status = _status(folder, name)
            if not (follow and status is not None and stat.S_ISLNK(status.st_mode)):
                return Spot(folder, name, status)
            try:
                text = os.readlink(name, dir_fd=folder)
            finally:
                os.close(folder)
            path = text if text.startswith("/") else f"{parent.rstrip('/')}/{text}"
        raise self._refused(path, path, OSError(errno.ELOOP, os.strerror(errno.ELOOP)))

    def _refused(self, path: str, at: str, error: OSError) -> CopyError:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            what = "no folder" if error.errno == errno.ENOTDIR else "not there"
            return CopyError(
                f"{self.show(path)} cannot be reached",
                why=f"{self.show(at or '.')} is {what}",
                fix="make the folder first" if error.errno == errno.ENOENT else "",
            )
        return CopyError(f"{self.show(path)} cannot be reached", why=error.strerror or str(error))


class Here(Place):
    """This machine's files, as this process sees them."""

    def __init__(self) -> None:
        super().__init__("")

    def open(self, path: str, flags: int) -> int:
        return os.open(path or ".", flags | os.O_CLOEXEC)

    def making(self) -> AbstractContextManager[None]:
        return nullcontext()

    def owner(self, uid: int, gid: int) -> tuple[int, int]:
        return uid, gid

    def inner_owner(self, uid: int, gid: int) -> tuple[int, int]:
        return uid, gid


def _split(path: str) -> tuple[str, str]:
    """The folder and the name in it; a path that ends in dots, or is the root, names a folder itself."""
    parent, slash, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        return path or "/", ""
    return parent or slash, name


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name or ".", dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
