"""One number for all processes of a registry: while it is the same, what they keep in memory is still true.

A page of a file that every process maps. A cache notes the number *before* it reads the database, and drops
what it holds when the number is another. Numbers are random, not counted: two processes that write at once
then cannot bring an old number back. Whoever starts a process again after it died calls `bump`, since it
may have died between its commit and its bump.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final

_SIZE: Final = 4096


class Generation:
    """The mapped page. Closed with the process, or by `close`."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            if os.fstat(descriptor).st_size < _SIZE:
                os.ftruncate(descriptor, _SIZE)
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self.cells = memoryview(self._map).cast("Q")  # hot code reads cells[0] itself

    def value(self) -> int:
        """The number now."""
        return self.cells[0]

    def bump(self) -> None:
        """Make every cache of every process untrue."""
        self.cells[0] = int.from_bytes(os.urandom(8), "little")

    def close(self) -> None:
        self.cells.release()
        self._map.close()
