"""How far a transfer is: threads report, one at a time tells the person who waits."""

from __future__ import annotations

import threading
import time
from typing import Final

from hakobune.progress import Progress

_INTERVAL_S: Final = 0.1


class Meter:
    """Counts the bytes of all parts of one transfer together. Threads share it.

    Args:
        what: what the bytes are of: "pulling".
    """

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._what = what
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0
        self._told = 0.0

    def expect(self, size: int) -> None:
        """That many more bytes are to come."""
        with self._lock:
            self._total += size

    def advance(self, size: int) -> None:
        """That many bytes are through; what is sent twice counts twice, up to the whole."""
        with self._lock:
            self._done += size
            now = time.monotonic()
            if now - self._told >= _INTERVAL_S and self._done < self._total:
                self._told = now
                self._progress.bytes(self._what, self._done, self._total)

    def step(self, text: str) -> None:
        with self._lock:
            self._progress.step(text)

    def note(self, text: str) -> None:
        with self._lock:
            self._progress.note(text)

    def finish(self) -> None:
        """All is through."""
        with self._lock:
            if self._total:
                self._progress.bytes(self._what, self._total, self._total)
