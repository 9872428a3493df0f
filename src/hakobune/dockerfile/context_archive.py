"""A build context that comes as a tar archive: unpacked into a folder of its own, for one build.

The folder is its owner's alone: an archive may hold programs with the set-user-id bit.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import IO, BinaryIO, Final, cast

from hakobune.dockerfile.file_digests import forget_digests
from hakobune.errors import HakoError
from hakobune.support.locks import try_exclusive
from hakobune.support.room import is_full

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_GZIP: Final = b"\x1f\x8b\x08"
_BZIP2: Final = b"BZh"
_XZ: Final = b"\xfd7zXZ\x00"
_MAGIC: Final = (_GZIP, _BZIP2, _XZ, _ZSTD)
_BLOCK = 512


class Rest:
    """A stream whose beginning has been read."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    @property
    def head(self) -> bytes:
        return self._head

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = len(self._head)
            return self.read(size) + self._stream.read()
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)


def is_archive(head: bytes) -> bool:
    """Whether this is the beginning of a tar archive, plain or compressed by gzip, bzip2, xz or zstd."""
    if head.startswith(_MAGIC) or head[:_BLOCK] == bytes(_BLOCK):  # the end of an empty one
        return True
    try:
        tarfile.TarInfo.frombuf(head[:_BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


@contextmanager
def new_folder(home: Path) -> Iterator[Path]:
    """An empty folder that is gone after the block."""
    contexts = home / "dockerfile" / "contexts"
    contexts.mkdir(parents=True, exist_ok=True)
    while True:
        folder = contexts / os.urandom(8).hex()
        lock = try_exclusive(folder.with_suffix(".lock"))
        if lock is not None:
            break
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        _remove(home, folder)
        os.close(lock)


def forget_contexts(home: Path) -> None:
    """Remove the folders of builds that have ended."""
    for path in (home / "dockerfile" / "contexts").glob("*.lock"):
        lock = try_exclusive(path)
        if lock is not None:
            _remove(home, path.with_suffix(""))
            os.close(lock)


def _remove(home: Path, folder: Path) -> None:
    rmtree(folder, ignore_errors=True)
    forget_digests(home, folder)
    folder.with_suffix(".lock").unlink(missing_ok=True)


def unpack(stream: Rest, folder: Path, name: str) -> None:
    """Everything in an archive, into the empty *folder*; *stream* is read to its end.

    Args:
        name: what it is, for messages.

    Raises:
        HakoError: it is damaged, or leads out of the folder.
    """
    import lzma
    import zlib

    from hakobune.dockerfile.add_archive import unpack_archive
    from hakobune.dockerfile.copy_into import Copier, CopyError, Owner

    what = f"{name} cannot be unpacked"
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        plain = _plain(stream)
        with tarfile.open(fileobj=plain, mode="r|") as tar:
            unpack_archive(tar, Copier(root), "/", owner=Owner(os.geteuid(), os.getegid()))
        while plain.read(1 << 20):  # to the end: there a compressed stream says whether it is whole
            pass
    except CopyError as error:
        why = f"{error.what}: {error.why}" if error.why else error.what
        raise HakoError(what, why=why, fix="make the archive anew: tar -c -C DIR .") from error
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise HakoError(
            what, why=str(error), fix="make the archive anew: tar -c -C DIR ."
        ) from error
    except OSError as error:
        if is_full(error):
            raise
        raise HakoError(
            what, why=f"{error.strerror or error}: {error.filename or 'a file of it'}"
        ) from error
    finally:
        os.close(root)


def _plain(stream: Rest) -> IO[bytes]:
    """The tar itself. What reads a stream needs nothing but its `read`."""
    file = cast("IO[bytes]", stream)
    head = stream.head
    if head.startswith(_GZIP):
        import gzip

        return cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))
    if head.startswith(_BZIP2):
        import bz2

        return bz2.BZ2File(file)
    if head.startswith(_XZ):
        import lzma

        return lzma.LZMAFile(file)
    if head.startswith(_ZSTD):
        from hakobune.dockerfile.add_archive import Zstd

        return cast("IO[bytes]", Zstd(file))
    return file
