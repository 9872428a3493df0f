"""The blobs of a store: written, taken over, fetched, and visible only whole (image-spec image-layout.md "Blobs")."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hakobune.oci.blobs import BlobUnknownError, BlobWriter, copy_stream, room_for
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest
from hakobune.oci.publishing import Publishing
from hakobune.oci.store_parts import blob_mark

if TYPE_CHECKING:
    from hakobune.oci.partial_blob import PartialBlob


class BlobStore(Publishing):
    """Bytes under the digest of what they are."""

    def new_blob(self, algorithm: str = "sha256") -> BlobWriter:
        """A writer to be used in a `with`: `.write(data)`, `.commit(media_type)`; discarded if not committed.

        Raises:
            StoreFullError: from its methods, when the disk is full; nothing is left behind.
        """
        with room_for("a blob", self.layout):
            return BlobWriter(self._temporary(), self._publish_blob, self._reached, algorithm)

    def put_blob(self, data: bytes, media_type: str, *, algorithm: str = "sha256") -> Descriptor:
        """Store *data* as one blob, named by that algorithm's digest."""
        with self.new_blob(algorithm) as blob:
            blob.write(data)
            return blob.commit(media_type)

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob's bytes are.

        Raises:
            BlobUnknownError: it is not there.
        """
        if not self._parts.blobs.has(digest):
            raise BlobUnknownError(digest)
        return self._parts.blobs.path(digest)

    def read_blob(self, digest: Digest) -> bytes:
        """The whole blob, checked against its name; for documents, not for layers.

        Raises:
            BlobUnknownError: it is not there.
            DigestError: its bytes are damaged.
        """
        return self._parts.blobs.read(digest)

    def has_blob(self, digest: Digest) -> bool:
        return self._parts.blobs.has(digest)

    def partial_blob(self, digest: Digest) -> PartialBlob:
        """A blob to be fetched, with what an earlier attempt has left of it; waits while another process fetches it."""
        from hakobune.oci.partial_blob import PartialBlob

        return PartialBlob(self._parts.arriving, digest, self._publish_blob, self._reached)

    def keep_blob(self, digest: Digest) -> bool:
        """Keep the blob from the collector, like what this object wrote; `False` if it is not here."""
        with self._publishing() as lease:
            lease.add(str(digest))
            return self._parts.blobs.has(digest)

    def link_blob(self, path: Path, digest: Digest) -> bool:
        """Take over a file whose bytes are known to be *digest* and never change, by a link; `False` if that cannot be.

        Kept from the collector, like what this object wrote.
        """
        temporary = self._temporary()
        try:
            os.link(path, temporary)
        except OSError:  # another file system, gone meanwhile, or not this user's
            return False
        try:
            self._publish_blob(temporary, digest)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    @contextlib.contextmanager
    def spool(self, stream: IO[bytes]) -> Iterator[Path]:
        """A file with all that *stream* gives, gone afterwards; for what must be read more than once."""
        with self.new_blob() as blob:
            copy_stream(stream.read, blob)
            yield blob.temporary

    def _temporary(self) -> Path:
        """A name for a blob to come, which is removed when this process has ended."""
        with self._publishing() as lease:
            name = f"{lease.name}.{os.urandom(4).hex()}"
        self._parts.partial.mkdir(parents=True, exist_ok=True)
        return self._parts.partial / name

    def _publish_blob(self, temporary: Path, digest: Digest) -> None:
        target = self._parts.blobs.path(digest)
        with self._publishing() as lease:
            lease.add(str(digest))
            if target.exists():
                temporary.unlink()
                return
            self._parts.unsynced.mark(blob_mark(digest))
            target.parent.mkdir(exist_ok=True)  # of another algorithm than sha256
            os.rename(temporary, target)
