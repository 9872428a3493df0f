"""The pipeline of a layer: tar, diff_id, gzip and digest in one pass over the bytes.

The calling thread frames entries into blocks of 1 MiB; beside it one thread hashes, others deflate, one writes in order.
What fits into one block needs no thread: starting them takes longer than the work.
"""

from __future__ import annotations

import hashlib
import os
import queue
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from isal import isal_zlib

from hakobune.oci import deflate
from hakobune.oci.descriptor import LAYER_GZIP, Descriptor
from hakobune.oci.digest import Digest
from hakobune.oci.manifest import Layer
from hakobune.oci.tar_header import BLOCK
from hakobune.oci.tree_walk import LayerError

_BLOCKS_IN_FLIGHT: Final = 16
_PADDING: Final = tuple(bytes(-size % BLOCK) for size in range(BLOCK))


class BlobWriter(Protocol):
    """Takes the bytes of a blob that is being made."""

    def write(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def commit(self, media_type: str, /) -> Descriptor: ...


class BlobSink(Protocol):
    """Where blobs go: leaving the context without `commit` leaves nothing behind."""

    def new_blob(self) -> AbstractContextManager[BlobWriter]: ...


@contextmanager
def open_tar_stream(sink: BlobSink) -> Iterator[TarStream]:
    """A stream into a new blob of *sink*, with its threads; without a commit nothing of it is left."""
    with sink.new_blob() as blob, _Threads(blob) as threads:
        yield TarStream(threads)


class TarStream:
    """Frames entries into blocks; the calling thread's side of the pipeline."""

    def __init__(self, threads: _Threads) -> None:
        self._threads = threads
        self._position = 0
        self._take_buffer()

    def put(self, header: bytes) -> None:
        """Append whole 512-byte blocks."""
        end = self._position + len(header)
        if end < deflate.BLOCK_SIZE:
            self._buffer[self._position : end] = header
            self._position = end
        else:
            self._put_across(header)

    def put_content(self, content: bytes) -> None:
        """Append a file's content and what fills it up to 512 bytes."""
        self._put_across(content)
        self._put_across(_PADDING[len(content) % BLOCK])

    def put_file(self, descriptor: int, size: int, path: bytes) -> None:
        """Append *size* bytes of an open file and what fills them up to 512 bytes.

        Raises:
            LayerError: the file has fewer bytes; *path* names it.
        """
        left = size
        while left:
            end = min(self._position + left, deflate.BLOCK_SIZE)
            count = os.readv(descriptor, (self._view[self._position : end],))
            if not count:
                raise LayerError(
                    f"{os.fsdecode(path)!r} changed while it was read",
                    why=f"it had {size} bytes, now {left} of them are gone",
                    fix="try again when nothing writes to it",
                )
            self._advance(count)
            left -= count
        padding = _PADDING[size % BLOCK]
        end = self._position + len(padding)
        self._buffer[self._position : end] = padding  # blocks of 512 never cross a buffer's end
        self._advance(len(padding))

    def finish(self) -> Layer:
        """Close the tar and wait for everything to be stored."""
        self._put_across(bytes(2 * BLOCK))
        return self._threads.finish(self._view[: self._position])

    def _put_across(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            count = min(len(rest), deflate.BLOCK_SIZE - self._position)
            self._buffer[self._position : self._position + count] = rest[:count]
            self._advance(count)
            rest = rest[count:]

    def _advance(self, count: int) -> None:
        self._position += count
        if self._position == deflate.BLOCK_SIZE:
            self._threads.send(self._buffer, self._position)
            self._take_buffer()

    def _take_buffer(self) -> None:
        self._buffer = self._threads.take_buffer()
        self._view = memoryview(self._buffer)
        self._position = 0


class _Threads:
    """Hashes, deflates and writes blocks beside the reader; at most `_BLOCKS_IN_FLIGHT` are on their way."""

    def __init__(self, blob: BlobWriter) -> None:
        self._blob = blob
        self._hasher = ThreadPoolExecutor(1, "layer-hash")
        # One core is the reader's.
        self._deflaters = ThreadPoolExecutor(max(2, (os.cpu_count() or 1) - 1), "layer-deflate")
        self._writer = ThreadPoolExecutor(1, "layer-write")
        self._diff_id = hashlib.sha256()
        self._crc32 = 0
        self._size = 0
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._buffers = 0
        self._failure: BaseException | None = None

    def __enter__(self) -> _Threads:
        return self

    def __exit__(self, *error: object) -> None:
        for threads in (self._hasher, self._deflaters, self._writer):
            threads.shutdown()

    def take_buffer(self) -> bytearray:
        """A buffer to fill; waits while too many are on their way."""
        if self._buffers < _BLOCKS_IN_FLIGHT and self._free.empty():
            self._buffers += 1
            return bytearray(deflate.BLOCK_SIZE)
        return self._free.get()

    def send(self, buffer: bytearray, size: int) -> None:
        """Hand on a filled buffer; it comes back through `take_buffer`.

        Raises:
            OSError: an earlier block could not be stored.
        """
        if self._failure is not None:
            raise self._failure
        block = memoryview(buffer)[:size]
        hashed = self._hasher.submit(self._hash, block)
        deflated = self._deflaters.submit(deflate.deflate_block, block)
        self._writer.submit(self._write, hashed, deflated, buffer)

    def finish(self, last: memoryview) -> Layer:
        """Wait for all blocks, add the last one, close the blob and give it its names."""
        self._writer.shutdown()
        if self._failure is not None:
            raise self._failure
        if last:
            data = deflate.deflate_block(last)
            self._blob.write(data if self._size else deflate.HEADER + data)
            self._size += self._hash(last)
        self._blob.write(deflate.trailer(self._crc32, self._size))
        return Layer(self._blob.commit(LAYER_GZIP), Digest("sha256", self._diff_id.hexdigest()))

    def _hash(self, block: memoryview) -> int:
        self._diff_id.update(block)
        self._crc32 = isal_zlib.crc32(block, self._crc32)
        return len(block)

    def _write(self, hashed: Future[int], deflated: Future[bytes], buffer: bytearray) -> None:
        try:
            data = deflated.result()
            size = hashed.result()
            if self._failure is None:
                self._blob.write(data if self._size else deflate.HEADER + data)
                self._size += size
        except BaseException as error:  # raised again where the caller waits: `send` or `finish`
            self._failure = error
        finally:
            self._free.put(buffer)
