"""A blob on its way in from afar: what has come stays when the process is killed, and the next one goes on from there.

`images/.hako/arriving/ALGORITHM-HEX` under an exclusive flock: one process fetches a blob, others wait and then have it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from hakobune.oci.blobs import COPY_SIZE, Publish, room_for
from hakobune.oci.commit_point import CommitPoint, Reached
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest, DigestError


class PartialBlob:
    """Takes the bytes of the blob *digest* in order, after those that are `kept`. A context manager.

    Leaving it without `commit` keeps what has come; waiting for the lock is waiting for another process's download.
    """

    def __init__(self, folder: Path, digest: Digest, publish: Publish, reached: Reached) -> None:
        self.digest = digest
        self._path = folder / f"{digest.algorithm}-{digest.hex}"
        self._publish = publish
        self._reached = reached
        with room_for("a blob", folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = _open_locked(self._path)
        self._hash = hashlib.new(digest.algorithm)
        self.size = 0

    def __enter__(self) -> PartialBlob:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            if os.fstat(self._descriptor).st_size == 0:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def kept(self) -> Iterator[bytes]:
        """What an earlier attempt has left, to be read to its end before the first `write`."""
        while data := os.read(self._descriptor, COPY_SIZE):
            self._hash.update(data)
            self.size += len(data)
            yield data

    def write(self, data: bytes) -> None:
        """Append *data*.

        Raises:
            StoreFullError: the disk is full.
        """
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        with room_for(f"the blob {self.digest}", self._path.parent):
            while view:
                view = view[os.write(self._descriptor, view) :]

    def restart(self) -> None:
        """Forget all that has come."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._hash = hashlib.new(self.digest.algorithm)
        self.size = 0

    def check(self) -> None:
        """Compare what has come with the digest; bytes that are wrong are forgotten.

        Raises:
            DigestError: they are something else.
        """
        found = self._hash.hexdigest()
        if found != self.digest.hex:
            size = self.size
            self.restart()
            raise DigestError(
                f"the content of {self.digest} is damaged",
                why=f"{size} bytes came, with the digest {self.digest.algorithm}:{found}",
            )

    def commit(self, media_type: str) -> Descriptor:
        """Make the blob visible under its digest.

        Raises:
            DigestError: what has come is something else; it is forgotten.
        """
        self.check()
        os.fchmod(self._descriptor, 0o644)
        self._reached(CommitPoint.BLOB_WRITTEN)
        with room_for(f"the blob {self.digest}", self._path.parent):
            self._publish(self._path, self.digest)
        os.close(self._descriptor)
        self._descriptor = -1
        self._reached(CommitPoint.BLOB_PUBLISHED)
        return Descriptor(media_type=media_type, digest=self.digest, size=self.size)


def discard_idle(folder: Path) -> None:
    """Remove what nobody is fetching."""
    for path in folder.glob("*"):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)


def _open_locked(path: Path) -> int:
    """The file under its lock; another one if it was published or removed while we waited."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
