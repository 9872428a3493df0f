"""One question to an upstream at a time, over all worker processes: the second who has it waits, and then finds the answer.

A GET of a manifest counts as a pull at Docker Hub: as many workers as there are cores would each make one.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

_THREADS: Final = 16


class QuestionLocks:
    """Locks of one worker, in a folder that all share. `close` ends its threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads: ThreadPoolExecutor | None = None

    @asynccontextmanager
    async def hold(self, question: str) -> AsyncIterator[bool]:
        """Hold the lock of *question*; the value says whether another process had it meanwhile."""
        path = self._folder / f"question-{sha256(question.encode()).hexdigest()[:32]}"
        descriptor = _take(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        waited = descriptor is None
        if descriptor is None:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="question")
            descriptor = await asyncio.get_running_loop().run_in_executor(
                self._threads, _wait_for, path
            )
        try:
            yield waited
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def close(self) -> None:
        """End the threads; who still waits gets the lock, and nobody asks."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _wait_for(path: Path) -> int:
    descriptor = _take(path, fcntl.LOCK_EX)
    assert descriptor is not None
    return descriptor


def _take(path: Path, kind: int) -> int | None:
    """The locked file, which is still at its path; `None` if another holds it and *kind* does not wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind)
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)
