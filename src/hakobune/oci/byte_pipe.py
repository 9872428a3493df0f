"""Bytes from one thread to another, in order, a bounded number of them on the way."""

from __future__ import annotations

import threading
from collections import deque


class BytePipe:
    """One writer, one reader. Whoever stops early lets the other go on: nothing blocks for ever."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()

    def write(self, data: bytes) -> None:
        """Hand on *data*; waits while too much is on the way, and does nothing once the reader has closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < self._limit or self._closed)
            if data and not self._closed:
                self._pieces.append(data)
                self._size += len(data)
                self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing comes any more; with *error*, the reader gets it raised."""
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._changed.notify_all()

    def read(self, size: int, /) -> bytes:
        """At most *size* bytes, nothing at the end; waits if there are none yet."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._ended or self._closed)
            if self._error is not None:
                raise self._error
            if not self._pieces:
                return b""
            piece = self._pieces.popleft()
            if len(piece) > size:
                self._pieces.appendleft(piece[size:])
                piece = piece[:size]
            self._size -= len(piece)
            self._changed.notify_all()
            return piece

    def close(self) -> None:
        """The reader wants no more."""
        with self._changed:
            self._closed = True
            self._pieces.clear()
            self._size = 0
            self._changed.notify_all()
