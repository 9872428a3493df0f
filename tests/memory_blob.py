"""A place for one layer's bytes, for tests that look at them."""

from collections.abc import Iterator
from contextlib import contextmanager

from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest


class MemoryBlob:
    """A `BlobSink` that keeps the last blob; `committed` says whether it was finished."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.committed = False

    @contextmanager
    def new_blob(self) -> Iterator["MemoryBlob"]:
        self.data = bytearray()
        self.committed = False
        yield self

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        self.data += data

    def commit(self, media_type: str, /) -> Descriptor:
        self.committed = True
        return Descriptor(media_type=media_type, digest=Digest.of(self.data), size=len(self.data))
