"""Blobs by digest in an image layout's `blobs/` (image-spec image-layout.md): whole under their name, or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from hakobune.errors import HakoError
from hakobune.oci.commit_point import CommitPoint, Reached
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest, DigestError
from hakobune.support.room import how_to_make_room, is_full

COPY_SIZE = 1 << 20


class BlobUnknownError(HakoError):
    """The store does not have this blob."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(
            f"the store has no blob {digest}",
            fix="build or load the image again; `hako image ls` shows what is here",
        )
        self.digest = digest


class StoreFullError(HakoError):
    """The disk has no room for what should be stored; nothing of it is left behind."""

    def __init__(self, what: str, folder: Path, error: OSError) -> None:
        super().__init__(
            f"cannot store {what}",
            why=f"{error.strerror or error} in {folder}",
            fix=how_to_make_room(folder),
        )


@contextlib.contextmanager
def room_for(what: str, folder: Path) -> Iterator[None]:
    """Turn "no space" and "quota exceeded" into `StoreFullError`, which names *what* and *folder*."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StoreFullError(what, folder, error) from error
        raise


class Publish(Protocol):
    """Makes a finished temporary file visible as the blob *digest*, protected from the collector."""

    def __call__(self, temporary: Path, digest: Digest) -> None: ...


class BlobWriter:
    """Takes a blob's bytes in order; `commit` makes it visible, leaving the `with` without it discards it.

    Args:
        algorithm: of the digest that names it.
    """

    def __init__(
        self, temporary: Path, publish: Publish, reached: Reached, algorithm: str = "sha256"
    ) -> None:
        self.temporary = temporary
        self._publish = publish
        self._reached = reached
        self._hash = hashlib.new(algorithm)
        self._size = 0
        self._started = False
        self._descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
        )

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def size(self) -> int:
        """How many bytes were written so far."""
        return self._size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append *data*, all of it.

        Raises:
            StoreFullError: the disk is full.
        """
        view = memoryview(data).cast("B")
        self._hash.update(view)
        self._size += len(view)
        with room_for("a blob", self.temporary.parent):
            while view:
                view = view[os.write(self._descriptor, view) :]
        if not self._started:
            self._started = True
            self._reached(CommitPoint.BLOB_STARTED)

    def commit(self, media_type: str, *, expected: Digest | None = None) -> Descriptor:
        """Make the blob visible under its digest and describe it. A blob that is there already is kept as it is.

        Raises:
            DigestError: the bytes are not what *expected* names; nothing is stored.
        """
        digest = Digest(self._hash.name, self._hash.hexdigest())
        if expected is not None and digest != expected:
            raise DigestError(
                f"the content of {expected} is damaged",
                why=f"its {self._size} bytes have the digest {digest}",
            )
        os.fchmod(self._descriptor, 0o644)
        os.close(self._descriptor)
        self._descriptor = -1
        self._reached(CommitPoint.BLOB_WRITTEN)
        with room_for(f"the blob {digest}", self.temporary.parent):
            self._publish(self.temporary, digest)
        self._reached(CommitPoint.BLOB_PUBLISHED)
        return Descriptor(media_type=media_type, digest=digest, size=self._size)

    def discard(self) -> None:
        """Give up what was written; nothing happens after `commit`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.temporary.unlink(missing_ok=True)


class BlobFolder:
    """The files `blobs/ALGORITHM/HEX` of one layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: Digest) -> Path:
        return self.folder / digest.algorithm / digest.hex

    def has(self, digest: Digest) -> bool:
        return os.path.isfile(f"{self.folder}/{digest.algorithm}/{digest.hex}")

    def read(self, digest: Digest) -> bytes:
        """The whole blob, checked against its name.

        Raises:
            BlobUnknownError: it is not there.
            DigestError: its bytes are damaged.
        """
        try:
            with open(f"{self.folder}/{digest.algorithm}/{digest.hex}", "rb", buffering=0) as file:
                data = file.read()
        except FileNotFoundError as error:
            raise BlobUnknownError(digest) from error
        digest.verify(data)
        return data

    def size(self, digest: Digest) -> int | None:
        """How long the blob is; `None` if it is not there."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def list(self) -> Iterator[Digest]:
        """Every blob, by what its file is called."""
        for algorithm in ("sha256", "sha512"):
            with contextlib.suppress(FileNotFoundError):
                for name in sorted(os.listdir(self.folder / algorithm)):
                    with contextlib.suppress(HakoError):
                        yield Digest.parse(f"{algorithm}:{name}")

    def is_intact(self, digest: Digest) -> bool:
        """Whether the bytes are what the name says; reads all of them. A missing blob is not intact."""
        try:
            with open(self.path(digest), "rb") as file:
                return hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.hex
        except FileNotFoundError:
            return False


def copy_stream(
    read: Callable[[int], bytes], blob: BlobWriter, *, limit: int | None = None
) -> None:
    """Write what *read* gives until it gives nothing, or has given more than *limit* bytes (which no digest fits)."""
    while data := read(COPY_SIZE):
        blob.write(data)
        if limit is not None and blob.size > limit:
            return
