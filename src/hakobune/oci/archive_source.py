"""Files by their name in an OCI layout or docker archive, whoever wrote it (image-spec image-layout.md).

Nothing is extracted. A name stands for one regular file; what leads elsewhere, stands there twice, or would come out
of its compression a hundred times larger than any image is refused before it is read.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Final, Protocol, cast

import msgspec

from hakobune.errors import HakoError
from hakobune.oci.inflate import TarBytes, UnpackError
from hakobune.oci.tar_header import BLOCK, EntryType
from hakobune.oci.tar_read import Entry, read_entries

MOST_MEMBERS: Final = 100_000
# What an archive that is itself compressed may become: layers in it are compressed already, or plain and seldom 1:20.
MOST_TIMES_LARGER: Final = 200
_SMALL_BYTES: Final = 1 << 30
_RARE: Final = {b"\xfd7": "xz", b"BZ": "bzip2"}
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ArchiveError(HakoError):
    """A file or folder holds no image that we can read."""


class Source(Protocol):
    """Files by their name."""

    def has(self, name: str) -> bool: ...
    def open(self, name: str) -> AbstractContextManager[IO[bytes]]: ...


Spool = Callable[[IO[bytes]], AbstractContextManager[Path]]


@contextlib.contextmanager
def open_source(path: Path, spool: Spool) -> Iterator[Source]:
    """The folder or archive at *path*.

    Args:
        spool: gives a file with all that a stream gives, gone afterwards (`Store.spool`).

    Raises:
        ArchiveError: it is no archive, or a hostile one.
        OSError: it cannot be opened.
    """
    if path.is_dir():
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield _Folder(folder, path)
        finally:
            os.close(folder)
        return
    with contextlib.ExitStack() as undo:
        if _is_compressed(path):
            try:
                path = undo.enter_context(_plain(path, spool))
            except UnpackError as error:
                raise ArchiveError(f"cannot read {path}", why=error.why or error.what) from error
        yield _Archive(undo.enter_context(open(path, "rb")), path)


def _is_compressed(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) in (b"\x1f\x8b", b"\x28\xb5", *_RARE)


@contextlib.contextmanager
def _plain(path: Path, spool: Spool) -> Iterator[Path]:
    """The archive out of its compression: read once, where looking up names would inflate it again and again."""
    limit = max(_SMALL_BYTES, path.stat().st_size * MOST_TIMES_LARGER)
    with contextlib.ExitStack() as undo:
        source = _Rare.open(path)
        if source is not None:
            undo.callback(source.close)
        tar = undo.enter_context(TarBytes(source or path, limit_bytes=limit))
        yield undo.enter_context(spool(cast("IO[bytes]", tar)))


class _Rare:
    """xz and bzip2, which layers never are and archives seldom: docker and podman load them."""

    def __init__(self, file: IO[bytes], kind: str, errors: tuple[type[Exception], ...]) -> None:
        self._file = file
        self._kind = kind
        self._errors = errors

    @classmethod
    def open(cls, path: Path) -> _Rare | None:
        """A reader of what comes out of *path*; `None` if it is neither."""
        with open(path, "rb") as file:
            kind = _RARE.get(file.read(2))
        match kind:
            case "xz":
                import lzma

                return cls(lzma.open(path), kind, (EOFError, lzma.LZMAError))
            case "bzip2":
                import bz2

                return cls(bz2.open(path), kind, (EOFError, OSError))
            case _:
                return None

    def read(self, size: int, /) -> bytes:
        try:
            return self._file.read(size)
        except self._errors as error:
            raise UnpackError(
                "the archive is damaged", why=f"its {self._kind} stream is broken: {error}"
            ) from error

    def close(self) -> None:
        self._file.close()


class _Folder:
    """A layout in a folder."""

    def __init__(self, folder: int, path: Path) -> None:
        self._folder = folder
        self._path = path

    def has(self, name: str) -> bool:
        try:
            os.close(self._open(name))
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        fd = self._open(name)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ArchiveError(f"{name} in {self._path} is no file")
        with open(fd, "rb") as file:
            yield file

    def _open(self, name: str) -> int:
        """Step by step, following no link: one could lead to any file of this machine."""
        *folders, last = name.split("/")
        if any(part in ("", ".", "..") for part in (*folders, last)):
            raise ArchiveError(f"{name!r} leads out of {self._path}")
        here = os.dup(self._folder)
        try:
            for part in folders:
                inner = os.open(part, _FOLDER_FLAGS, dir_fd=here)
                os.close(here)
                here = inner
            return os.open(last, _FILE_FLAGS, dir_fd=here)
        except OSError as error:
            if error.errno in (20, 40):  # ENOTDIR, ELOOP
                raise ArchiveError(
                    f"{name} leads out of {self._path}", why="a symbolic link stands there"
                ) from error
            error.filename = f"{self._path}/{name}"
            raise
        finally:
            os.close(here)


class _Member(msgspec.Struct, frozen=True):
    """Where a file's bytes are, or where its link leads."""

    offset: int
    size: int
    target: str = ""


class _Archive:
    """Regular files in a tar. Links are for old docker archives, whose layers stand for each other: one step, inside."""

    def __init__(self, file: io.BufferedReader, path: Path) -> None:
        self._file = file
        self._path = path
        try:
            self._members = self._read()
        except UnpackError as error:
            why = error.why or error.what
            raise ArchiveError(f"cannot load {path}", why=f"it is no tar archive: {why}") from error

    def has(self, name: str) -> bool:
        return name in self._members

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        member = self._member(name)
        if member.target:
            member = self._member(member.target)
            if member.target or name.startswith("blobs/"):
                raise ArchiveError(f"{name} is not a file in {self._path}", why="it is a link")
        with io.BufferedReader(_Window(self._file.fileno(), member.offset, member.size)) as file:
            yield file

    def _member(self, name: str) -> _Member:
        try:
            return self._members[name]
        except KeyError as error:
            raise ArchiveError(
                f"{self._path} has no {name}", why="it names this file: it is cut off, or not whole"
            ) from error

    def _read(self) -> dict[str, _Member]:
        tar = _Seeking(self._file)
        end = os.fstat(self._file.fileno()).st_size
        members: dict[str, _Member] = {}
        for count, entry in enumerate(read_entries(cast("TarBytes", tar))):
            if count >= MOST_MEMBERS:
                raise ArchiveError(
                    f"cannot load {self._path}", why=f"it has more than {MOST_MEMBERS} files"
                )
            offset = self._file.tell()
            if entry.size < 0 or offset + entry.size > end:
                raise ArchiveError(
                    f"cannot load {self._path}", why="it is cut off, or says so of itself"
                )
            member = self._take(entry, offset)
            if member is not None:
                name = self._name(entry.name)
                if name in members:
                    raise ArchiveError(
                        f"cannot load {self._path}",
                        why=f"{name} is in it twice: readers would not agree which one counts",
                    )
                members[name] = member
            self._file.seek(offset + entry.size + -entry.size % BLOCK)
        return members

    def _take(self, entry: Entry, offset: int) -> _Member | None:
        name = self._name(entry.name)
        match entry.kind:
            case EntryType.FILE:
                return _Member(offset, entry.size)
            case EntryType.LINK:
                return _Member(0, 0, self._name(entry.target))
            case EntryType.SYMLINK:
                return _Member(0, 0, self._name(entry.target, relative_to=name))
            case _:
                return None

    def _name(self, raw: bytes, *, relative_to: str = "") -> str:
        text = raw.decode("utf-8", "surrogateescape")
        joined = posixpath.normpath(posixpath.join(posixpath.dirname(relative_to), text))
        if text.startswith("/") or joined == ".." or joined.startswith("../"):
            link = (
                f"the link {relative_to} in it, to {text!r}," if relative_to else f"{text!r} in it"
            )
            raise ArchiveError(f"cannot load {self._path}", why=f"{link} leads out of the archive")
        return joined


class _Seeking:
    """What `read_entries` needs of a plain archive; contents are passed over without being read."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(size)


class _Window(io.RawIOBase):
    """A part of a file, read by position: several may be open at once."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        super().__init__()
        self._fd = fd
        self._offset = offset
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # what RawIOBase calls a buffer
        view = memoryview(buffer)[: self._left]
        count = os.preadv(self._fd, [view], self._offset) if view else 0
        self._offset += count
        self._left -= count
        return count
