"""The file of an upload session: bytes are appended and hashed as they come, under one lock a session.

The database knows how far it is believed and the hash's state there; a file that is longer was written by a
process that died, and is cut. A file without write permission is *sealed*: a commit that came to nothing (a full
quota, a busy database, a kill) may have linked it to a blob's place (`LocalStorage.put`), so it is never written to
or cut again. Who has more to write gets a copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hakobune.registry.errors import RegistryError
from hakobune.registry.running_hash import RunningHash, resume_hash, start_hash

_PIECE: Final = 1 << 20
_WRITTEN_AT_ONCE: Final = 224 * 1024
_PIECES: Final = 512  # far below IOV_MAX


class StagedFile:
    """One session's open and locked file. Close it; what is in it stays."""

    def __init__(self, path: Path, descriptor: int, offset: int, running: RunningHash) -> None:
        self.path = path
        self.offset = offset  # bytes that are in the file and in the hash; those that wait are not
        self.running = running
        self._descriptor = descriptor
        self._pieces: list[memoryview] = []
        self._waiting = 0  # bytes of them

    @property
    def is_sealed(self) -> bool:
        """Whether `unseal` has to come before `write`."""
        return _is_sealed(self._descriptor)

    def unseal(self) -> None:
        """Go on with a copy of a sealed file, which takes its name. Blocks as long as copying takes.

        Raises:
            OSError: the disk is full; everything is as it was.
        """
        _go_on_with_copy(self.path, self._descriptor, self.offset)

    def write(self, data: memoryview) -> None:
        """Append *data*, which must not change before `flush`; many pieces are written at once.

        Raises:
            OSError: the disk is full; what was written before stays.
        """
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting >= _WRITTEN_AT_ONCE or len(self._pieces) >= _PIECES:
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: the disk is full; what waited is given up, the file ends where it ended.
        """
        pieces, self._pieces = self._pieces, []
        size, self._waiting = self._waiting, 0
        if not size:
            return
        try:
            self._write_all(pieces, size)
        except OSError:
            os.ftruncate(self._descriptor, self.offset)
            raise
        for piece in pieces:
            self.running.update(piece)
        self.offset += size

    def _write_all(self, pieces: list[memoryview], size: int) -> None:
        written = os.writev(self._descriptor, pieces)
        if written < size:  # the disk is nearly full, or a signal came
            rest = memoryview(b"".join(pieces))[written:]
            while len(rest):
                rest = rest[os.write(self._descriptor, rest) :]

    def digest(self, algorithm: str) -> str:
        """`ALGORITHM:HEX` of all that has come; another algorithm than the running one reads the file (blocks)."""
        if algorithm == self.running.algorithm:
            return f"{algorithm}:{self.running.hexdigest()}"
        again = hashlib.new(algorithm)
        for piece in _read_all(self._descriptor, self.offset):
            again.update(piece)
        return f"{algorithm}:{again.hexdigest()}"

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def create_staged(path: Path, algorithm: str) -> StagedFile:
    """A new session's file.

    Raises:
        OSError: it cannot be made.
    """
    return StagedFile(path, _create(path), 0, start_hash(algorithm))


def lock_staged(path: Path) -> int:
    """A session's file, open and locked: read its row after this, then `resume_staged`.

    Raises:
        RegistryError: it is gone, or another request is writing to it.
    """
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        raise _gone() from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.stat(path), os.fstat(descriptor)):
            raise BlockingIOError  # `unseal` was first
    except FileNotFoundError:  # the request that had it has ended the session
        os.close(descriptor)
        raise _gone() from None
    except BlockingIOError:
        os.close(descriptor)
        raise RegistryError(
            "BLOB_UPLOAD_INVALID", "another request is writing to this upload", status=409
        ) from None
    return descriptor


def resume_staged(
    path: Path, descriptor: int, offset: int, algorithm: str, state: bytes | None
) -> StagedFile:
    """The session as its row says it is. Blocks if the hash cannot go on from *state*.

    Raises:
        RegistryError: bytes that were promised are gone (BLOB_UPLOAD_UNKNOWN).
    """
    size = os.fstat(descriptor).st_size
    if size < offset:
        raise RegistryError("BLOB_UPLOAD_UNKNOWN", "what was uploaded is gone: start again")
    if size > offset and _is_sealed(descriptor):  # the row was undone by a power loss
        _go_on_with_copy(path, descriptor, offset)
    elif size > offset:
        os.ftruncate(descriptor, offset)
    running = None if state is None else resume_hash(algorithm, state)
    if running is None:
        running = start_hash(algorithm)
        for piece in _read_all(descriptor, offset):
            running.update(piece)
    return StagedFile(path, descriptor, offset, running)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except PermissionError:  # sealed, and we are not root
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _gone() -> RegistryError:
    return RegistryError("BLOB_UPLOAD_UNKNOWN", "there is no such upload")


def _is_sealed(descriptor: int) -> bool:
    return not os.fstat(descriptor).st_mode & stat.S_IWUSR


def _go_on_with_copy(path: Path, descriptor: int, size: int) -> None:
    """Put a copy of the first *size* bytes in the place of *path*; from now on *descriptor* is that one, and its lock."""
    beside = path.with_name(f"{path.name}.copy")
    beside.unlink(missing_ok=True)  # of a process that died
    copy = _create(beside)
    try:
        for piece in _read_all(descriptor, size):
            while len(piece):
                piece = piece[os.write(copy, piece) :]
        beside.rename(path)
        os.dup2(copy, descriptor, inheritable=False)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    finally:
        os.close(copy)


def _create(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _read_all(descriptor: int, size: int) -> Iterator[memoryview]:
    at = 0
    while at < size:
        piece = os.pread(descriptor, min(_PIECE, size - at), at)
        if not piece:
            raise OSError("the file is shorter than its session says")
        at += len(piece)
        yield memoryview(piece)
