"""The tar inside a layer's blob: inflated and hashed in a thread of its own, read in order by the caller."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, Final, Protocol, cast

from isal import igzip_lib

from hakobune.errors import HakoError
from hakobune.oci.digest import Digest

CHUNK_SIZE: Final = 1 << 20
_CHUNKS_IN_FLIGHT: Final = 8
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = b"\x2a\x4d\x18"  # after a first byte 0x50 to 0x5f
# What --long=27 needs; a frame may ask for more memory than there is.
_ZSTD_WINDOW: Final = 128 << 20


class UnpackError(HakoError):
    """A layer is damaged, hostile, or of a kind that we do not read."""


class ByteSource(Protocol):
    """Gives a blob's bytes in order, for one thread: an open file, or one end of a pipe."""

    def read(self, size: int, /) -> bytes:
        """At most *size* bytes, nothing at the end; waits if there are none yet."""
        ...


class TarBytes:
    """The uncompressed bytes of a blob: plain tar, or gzip or zstd with any number of members.

    A context manager; leaving it ends the thread, whether everything was read or not (a source that waits must end then).

    Args:
        blob: the blob's file, or its bytes while they arrive.
        limit_bytes: what may come out of the blob; more is an `UnpackError`.
    """

    def __init__(self, blob: Path | ByteSource, *, limit_bytes: int) -> None:
        self._blob = blob
        self._limit_bytes = limit_bytes
        self._diff_id = hashlib.sha256()
        self._chunks: queue.Queue[bytes | BaseException | None] = queue.Queue(_CHUNKS_IN_FLIGHT)
        self._stopped = False
        self._thread = threading.Thread(target=self._produce, name="layer-inflate", daemon=True)
        self._chunk = memoryview(b"")
        self._ended = False
        self.size_bytes = 0  # of the tar; complete after `finish`

    def __enter__(self) -> TarBytes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        while self._thread.is_alive():
            try:
                self._chunks.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()

    def read(self, size: int) -> bytes:
        """The next *size* bytes; fewer only at the end."""
        if size <= len(self._chunk):
            data = bytes(self._chunk[:size])
            self._chunk = self._chunk[size:]
            return data
        pieces = []
        while size and (piece := self._next_piece(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def copy_to(self, descriptor: int, size: int) -> None:
        """Write the next *size* bytes to an open file.

        Raises:
            UnpackError: the blob ends before.
        """
        while size:
            piece = self._expect_piece(size)
            size -= len(piece)
            while piece:
                piece = piece[os.write(descriptor, piece) :]

    def skip(self, size: int) -> None:
        """Pass over *size* bytes.

        Raises:
            UnpackError: the blob ends before.
        """
        while size:
            size -= len(self._expect_piece(size))

    def finish(self) -> Digest:
        """Read to the end, what follows the archive included, and give the digest of all bytes: the diff_id."""
        while self._next_piece(CHUNK_SIZE):
            pass
        self._thread.join()
        return Digest("sha256", self._diff_id.hexdigest())

    def _expect_piece(self, size: int) -> memoryview:
        piece = self._next_piece(size)
        if not piece:
            raise UnpackError("the layer ends in the middle of a file", why="it was cut off")
        return piece

    def _next_piece(self, size: int) -> memoryview:
        """At most *size* bytes; none at the end."""
        if not self._chunk and not self._ended:
            chunk = self._chunks.get()
            if isinstance(chunk, BaseException):
                self._ended = True
                raise chunk
            if chunk is None:
                self._ended = True
            else:
                self._chunk = memoryview(chunk)
        piece = self._chunk[:size]
        self._chunk = self._chunk[size:]
        return piece

    def _open(self) -> AbstractContextManager[ByteSource]:
        blob = self._blob
        return open(blob, "rb") if isinstance(blob, Path) else nullcontext(blob)

    def _produce(self) -> None:
        try:
            with self._open() as source:
                for chunk in _uncompressed(source):
                    if self._stopped:
                        return
                    self.size_bytes += len(chunk)
                    if self.size_bytes > self._limit_bytes:
                        raise UnpackError(
                            "the layer is too large",
                            why=f"more than {self._limit_bytes} bytes come out of it",
                        )
                    self._diff_id.update(chunk)
                    self._chunks.put(chunk)
            self._chunks.put(None)
        except BaseException as error:  # raised again by the reading thread
            self._chunks.put(error)


class _Replayed:
    """A source whose first bytes were looked at."""

    def __init__(self, source: ByteSource, size: int) -> None:
        self._source = source
        self._head = b""
        while len(self._head) < size and (data := source.read(size - len(self._head))):
            self._head += data
        self.head = self._head

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._source.read(size)


def _uncompressed(source: ByteSource) -> Iterator[bytes]:
    replayed = _Replayed(source, len(_ZSTD_MAGIC))
    if replayed.head.startswith(_GZIP_MAGIC):
        return _gunzip(replayed)
    if replayed.head == _ZSTD_MAGIC or (
        replayed.head[1:] == _ZSTD_SKIPPABLE and replayed.head[0] & 0xF0 == 0x50
    ):
        return _unzstd(replayed)
    return iter(lambda: replayed.read(CHUNK_SIZE), b"")


def _unzstd(source: ByteSource) -> Iterator[bytes]:
    """The content of all zstd frames, one after the other (RFC 8878 "3.1"); skippable ones give nothing."""
    import zstandard  # 10 ms, and most layers are gzip

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        with decompressor.stream_reader(
            cast("BinaryIO", source),  # it needs nothing but `read`
            read_size=CHUNK_SIZE // 4,
            read_across_frames=True,
        ) as reader:
            while chunk := reader.read(CHUNK_SIZE):
                yield chunk
    except zstandard.ZstdError as error:
        raise UnpackError(
            "the layer is damaged", why=f"its zstd stream is broken: {error}"
        ) from error


def _gunzip(file: ByteSource) -> Iterator[bytes]:
    """The content of all gzip members, one after the other (RFC 1952 "2.2. File format"); zeros may follow them."""
    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    rest = b""
    try:
        while True:
            if member.needs_input:
                data = rest or file.read(CHUNK_SIZE // 4)
                rest = b""
                if not data:
                    raise UnpackError("the layer is cut off", why="its gzip stream has no end")
            else:
                data = b""
            if chunk := member.decompress(data, CHUNK_SIZE):
                yield chunk
            if member.eof:
                rest = member.unused_data.lstrip(b"\x00")
                while not rest and (data := file.read(CHUNK_SIZE // 4)):
                    rest = data.lstrip(b"\x00")
                if not rest:
                    return
                if not (rest + file.read(1 if len(rest) < 2 else 0)).startswith(_GZIP_MAGIC):
                    raise UnpackError(
                        "the layer is damaged", why="foreign bytes follow its gzip stream"
                    )
                member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    except igzip_lib.IsalError as error:  # type: ignore[misc] # declared as an instance there
        raise UnpackError(
            "the layer is damaged", why=f"its gzip stream is broken: {error}"
        ) from error
