"""ADD unpacks a local archive: a tar as it is, or compressed by gzip, bzip2, xz or zstd, whatever its name.

Unlike a layer, an archive has no whiteouts; what it holds replaces what is there. Links on the way are followed inside the
root, as a chroot would.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from posixpath import dirname, join
from tarfile import HeaderError, ReadError
from typing import IO, Self, cast

from msgspec import Struct, field
from msgspec.structs import replace

from hakobune.dockerfile.copy_into import DIRECTORY_MODE, Copier, CopyError, Entry, Owner

_ZSTD = b"\x28\xb5\x2f\xfd"
_XATTR = "SCHILY.xattr."
_ENDS = ("EmptyHeaderError", "EOFHeaderError")  # subclasses of `HeaderError` that are no errors


class _Member(tarfile.TarInfo):
    """One that cannot be read is an error anywhere; `tarfile` takes it for the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if type(error).__name__ in _ENDS:
                raise
            raise ReadError(str(error)) from error


@contextmanager
def open_archive(entry: Entry) -> Iterator[tarfile.TarFile | None]:
    """The file as an archive; `None` if it is none, or an empty one."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    if not stat.S_ISREG(entry.status.st_mode):
        yield None
        return
    with open(os.open(entry.name, flags, dir_fd=entry.folder), "rb") as file:
        try:
            tar = _open(file)
            first = tar.next()
        except (tarfile.TarError, EOFError, OSError, ValueError):
            yield None
            return
        if first is None:
            yield None
            return
        with contextlib.closing(tar):
            yield tar


def _open(file: IO[bytes]) -> tarfile.TarFile:
    magic = file.read(4)
    file.seek(0)
    if magic != _ZSTD:
        return tarfile.open(fileobj=file, mode="r:*", tarinfo=_Member, format=tarfile.PAX_FORMAT)
    return tarfile.open(fileobj=cast("IO[bytes]", Zstd(file)), mode="r|")


class Zstd:
    """What a zstd stream says; it has nothing but `read`.

    Args:
        file: it needs nothing but `read`, too.
    """

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._plain = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)

    def read(self, size: int = -1) -> bytes:
        """As a file's.

        Raises:
            tarfile.ReadError: the stream is damaged.
        """
        try:
            return self._plain.read(size)
        except self._error as error:
            raise tarfile.ReadError(f"its zstd stream is damaged: {error}") from error


def unpack_archive(
    tar: tarfile.TarFile, copier: Copier, destination: str, *, owner: Owner | None
) -> None:
    """Put everything in *tar* below *destination*, which is made if it is missing and is the root of all its paths.

    Args:
        owner: of everything in it; `None` keeps the archive's. Folders that it does not name are root's.

    Raises:
        CopyError: the archive names something outside of itself, or is damaged.
    """
    top = copier.resolve(destination)
    replace(copier, directory_mode=DIRECTORY_MODE).make_directories(top)
    root = os.open(top or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=copier.root)
    try:
        unpacking = _Unpacking(tar, Copier(root, now_ns=copier.now_ns), owner)
        for member in tar:
            unpacking.add(member)
        unpacking.finish()
    except (tarfile.TarError, EOFError) as error:
        raise CopyError("the archive is damaged", why=str(error)) from error
    finally:
        os.close(root)


class _Unpacking(Struct, eq=False):
    """One archive on its way into a folder, which `copier` takes for its root."""

    tar: tarfile.TarFile
    copier: Copier
    owner: Owner | None
    times: list[tuple[str, int]] = field(default_factory=list)

    def add(self, member: tarfile.TarInfo) -> None:
        name = _inside(member.name)
        if not name:
            return  # the destination itself is as it was, or as others that are made
        folder = self.copier.resolve(dirname(name))
        self.copier.make_directories(folder)
        path = join(folder, name.rpartition("/")[2])
        root, mtime = self.copier.root, int(member.mtime)
        if member.isdir():
            _make_directory(root, path)
            self._set_attributes(member, path)
            self.times.append((path, mtime))
        else:
            _clear(root, path)
            if member.islnk():
                target = self.copier.resolve(_inside(member.linkname))
                os.link(target, path, src_dir_fd=root, dst_dir_fd=root, follow_symlinks=False)
            elif self._make(member, path):
                self._set_attributes(member, path)
                os.utime(path, (mtime, mtime), dir_fd=root, follow_symlinks=False)

    def finish(self) -> None:
        """Give the folders their times: what was put into them has changed them."""
        for path, mtime in reversed(self.times):
            os.utime(path, (mtime, mtime), dir_fd=self.copier.root)

    def _make(self, member: tarfile.TarInfo, path: str) -> bool:
        root = self.copier.root
        if member.issym():
            os.symlink(member.linkname, path, dir_fd=root)
        elif member.isfifo():
            os.mkfifo(path, 0o600, dir_fd=root)
        elif member.ischr() or member.isblk():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            device = os.makedev(member.devmajor, member.devminor)
            os.mknod(path, kind | 0o600, device, dir_fd=root)
        elif member.isfile():
            _write(member, self.tar, path, root)
        else:
            return False
        return True

    def _set_attributes(self, member: tarfile.TarInfo, path: str) -> None:
        root = self.copier.root
        owner = self.owner or Owner(member.uid, member.gid)
        os.chown(path, owner.uid, owner.gid, dir_fd=root, follow_symlinks=False)
        if member.issym():
            return
        os.chmod(path, member.mode & 0o7777, dir_fd=root)
        for key, value in member.pax_headers.items():
            name = key.removeprefix(_XATTR)
            known = name == "security.capability" or name.startswith("user.")
            if key.startswith(_XATTR) and known:
                _set_xattr(root, path, name, value.encode("utf-8", "surrogateescape"))


def _inside(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise CopyError(f"{name!r} in the archive leaves it", why="it has .. in it")
    return "/".join(parts)


def _make_directory(root: int, path: str) -> None:
    try:
        mode = os.stat(path, dir_fd=root, follow_symlinks=False).st_mode
    except FileNotFoundError:
        os.mkdir(path, 0o700, dir_fd=root)
        return
    if not stat.S_ISDIR(mode):
        os.unlink(path, dir_fd=root)
        os.mkdir(path, 0o700, dir_fd=root)


def _clear(root: int, path: str) -> None:
    try:
        mode = os.stat(path, dir_fd=root, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        from shutil import rmtree

        rmtree(path, dir_fd=root)
    else:
        os.unlink(path, dir_fd=root)


def _write(member: tarfile.TarInfo, tar: tarfile.TarFile, path: str, root: int) -> None:
    from shutil import copyfileobj

    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600, dir_fd=root), "wb") as out:
        content = tar.extractfile(member)
        if content is not None:
            copyfileobj(content, out, 1 << 20)


def _set_xattr(root: int, path: str, name: str, value: bytes) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    try:
        with contextlib.suppress(OSError):
            os.setxattr(descriptor, name, value)
    finally:
        os.close(descriptor)
