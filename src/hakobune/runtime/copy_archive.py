"""Files of a place as a tar stream, and a tar stream as files of a place. Names in it never lead out of the folder."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from typing import Any, BinaryIO

from hakobune.runtime.file_place import CopyError, Place, Spot, remove_file

_BLOCK = 1 << 20
_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


def pack(place: Place, spot: Spot, arcname: str, out: BinaryIO) -> None:
    """Write what is at *spot*, with all that is in it, as *arcname*; sockets are left out.

    Raises:
        OSError: something cannot be read, or nobody reads the stream.
    """
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _Packing(place, archive).add(spot.folder, spot.name or ".", arcname)


class _Packing:
    def __init__(self, place: Place, archive: tarfile.TarFile) -> None:
        self._place = place
        self._archive = archive
        self._seen: dict[tuple[int, int], str] = {}

    def add(self, at: int, name: str, arcname: str) -> None:
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return
        info = self._info(status, kind, arcname)
        if kind == tarfile.REGTYPE:
            self._add_file(at, name, info, status)
            return
        if kind == tarfile.SYMTYPE:
            info.linkname = os.readlink(name, dir_fd=at)
        self._archive.addfile(info)
        if kind == tarfile.DIRTYPE:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below = os.open(name, flags, dir_fd=at)
            try:
                names = []
                if self._place.has_files(below):
                    with os.scandir(below) as entries:
                        names = sorted(entry.name for entry in entries)
                for entry in names:
                    self.add(below, entry, f"{arcname.rstrip('/')}/{entry}")
            finally:
                os.close(below)

    def _info(self, status: os.stat_result, kind: bytes, arcname: str) -> tarfile.TarInfo:
        info = tarfile.TarInfo(arcname)
        info.type = kind
        info.mode = stat.S_IMODE(status.st_mode)
        info.mtime = status.st_mtime
        info.uid, info.gid = self._place.inner_owner(status.st_uid, status.st_gid)
        if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return info

    def _add_file(self, at: int, name: str, info: tarfile.TarInfo, status: os.stat_result) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self._seen:
            info.type, info.linkname = tarfile.LNKTYPE, self._seen[key]
            self._archive.addfile(info)
            return
        self._seen[key] = info.name
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=at), "rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            self._archive.addfile(info, file)


def unpack(
    place: Place, folder: str, source: BinaryIO, *, leave_out: Callable[[str], None]
) -> None:
    """Put what is in the tar stream (plain, gzip, bzip2, xz) into *folder*, which is there, with the owners that it names.

    Raises:
        CopyError: it is no tar stream, or a name in it leads out of the folder; what came before stays.
    """
    unpacking = _Unpacking(place, folder, leave_out)
    counted = _Counted(source)
    stream = io.BufferedReader(counted, _BLOCK)
    try:
        with tarfile.open(fileobj=stream, mode="r|*", bufsize=_BLOCK) as archive:
            for member in archive:
                unpacking.put(archive, member)
        while stream.read(_BLOCK):  # whoever writes must not be cut off
            pass
    except (tarfile.TarError, EOFError) as error:
        if not counted.count:
            return
        raise CopyError(
            f"cannot copy into {place.show(folder)}",
            why=f"standard input is no whole tar stream ({error})",
            fix=f"tar c FILES | hako container cp - {place.show(folder)}",
        ) from error
    unpacking.finish()


class _Counted(io.RawIOBase):
    """Counts what is read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


class _Unpacking:
    def __init__(self, place: Place, folder: str, leave_out: Callable[[str], None]) -> None:
        self._place = place
        self._folder = folder
        self._leave_out = leave_out
        self._folders: list[tuple[str, float]] = []

    def put(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if not (name := self._inside(member, member.name)):
            return
        spot = self._spot(name)
        try:
            with self._place.making():
                self._make(archive, member, spot, name)
        finally:
            spot.close()

    def finish(self) -> None:
        """Date folders, which what came into them has changed."""
        for name, mtime in reversed(self._folders):
            spot = self._spot(name)
            try:
                if spot.is_directory:
                    os.utime(spot.name, (mtime, mtime), dir_fd=spot.folder, follow_symlinks=False)
            finally:
                spot.close()

    def _make(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, spot: Spot, name: str
    ) -> None:
        if spot.status is not None and member.isdir() != spot.is_directory:
            raise CopyError(
                f"cannot copy {name} of the tar stream",
                why=f"{'a folder' if spot.is_directory else 'something else'} has its name in {self._folder}",
            )
        if spot.status is not None and not member.isdir():
            remove_file(spot.folder, spot.name, f"{self._place.show(self._folder)}/{name}")
        if member.isdir():
            if spot.status is None:
                os.mkdir(spot.name, 0o700, dir_fd=spot.folder)
            self._folders.append((name, member.mtime))
        elif member.isreg():
            self._write(archive, member, spot)
        elif member.issym():
            os.symlink(member.linkname, spot.name, dir_fd=spot.folder)
        elif member.islnk():
            self._link(member, spot)
            return
        elif member.isfifo():
            os.mkfifo(spot.name, 0o600, dir_fd=spot.folder)
        else:
            self._leave_out(name)
            return
        self._set(member, spot)

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, spot: Spot) -> None:
        content = archive.extractfile(member)
        assert content is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(spot.name, flags, 0o600, dir_fd=spot.folder), "wb") as file:
            while data := content.read(_BLOCK):
                file.write(data)

    def _link(self, member: tarfile.TarInfo, spot: Spot) -> None:
        first = self._spot(self._inside(member, member.linkname))
        try:
            if first.status is None or not stat.S_ISREG(first.status.st_mode):
                raise CopyError(
                    f"cannot copy {member.name} of the tar stream",
                    why=f"it is a hard link to {member.linkname}, which is no file there",
                )
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(first.name, flags, dir_fd=first.folder)
            try:
                path = f"/proc/self/fd/{fd}"
                os.link(path, spot.name, dst_dir_fd=spot.folder, follow_symlinks=True)
            finally:
                os.close(fd)
        finally:
            first.close()

    def _set(self, member: tarfile.TarInfo, spot: Spot) -> None:
        ids = self._place.owner(member.uid, member.gid)
        os.chown(spot.name, *ids, dir_fd=spot.folder, follow_symlinks=False)
        if not member.issym():
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(spot.name, flags, dir_fd=spot.folder)
            try:
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    os.chmod(f"/proc/self/fd/{fd}", member.mode & 0o7777)
            finally:
                os.close(fd)
        times = (member.mtime, member.mtime)
        os.utime(spot.name, times, dir_fd=spot.folder, follow_symlinks=False)

    def _spot(self, name: str) -> Spot:
        """Where a name of the stream leads; folders on the way that it does not have are made."""
        parent, _, last = name.rpartition("/")
        made = self._folder
        for part in parent.split("/") if parent else ():
            spot = self._place.find(f"{made}/{part}", follow=True)
            try:
                if spot.status is None:
                    with self._place.making():
                        os.mkdir(spot.name, 0o755, dir_fd=spot.folder)
            finally:
                spot.close()
            made = f"{made}/{part}"
        return self._place.find(f"{made}/{last}", follow=False)

    def _inside(self, member: tarfile.TarInfo, name: str) -> str:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise CopyError(
                f"cannot copy {member.name!r} of the tar stream",
                why=f"{name!r} leads out of the folder into which it shall come",
            )
        return "/".join(parts)
