"""A tar as it is, piece by piece: for what needs no compression."""

from __future__ import annotations

import os
from typing import Protocol

from hakobune.oci.tar_header import BLOCK
from hakobune.oci.tree_walk import LayerError

_PIECE = 1 << 20


class Out(Protocol):
    """What takes the bytes."""

    def write(self, data: bytes, /) -> object: ...


class PlainTar:
    """Writes entries one after the other."""

    def __init__(self, out: Out) -> None:
        self._out = out

    def put(self, header: bytes) -> None:
        """Append whole 512-byte blocks."""
        self._out.write(header)

    def put_file(self, descriptor: int, size: int, path: bytes) -> None:
        """Append *size* bytes of an open file and what fills them up to 512 bytes.

        Raises:
            LayerError: the file has fewer bytes; *path* names it.
        """
        left = size
        while left:
            data = os.read(descriptor, min(left, _PIECE))
            if not data:
                raise LayerError(
                    f"{os.fsdecode(path)!r} changed while it was read",
                    why=f"it had {size} bytes, now {left} of them are gone",
                )
            self._out.write(data)
            left -= len(data)
        self._out.write(bytes(-size % BLOCK))

    def finish(self) -> None:
        """Close the archive; what it goes to stays open."""
        self._out.write(bytes(2 * BLOCK))
