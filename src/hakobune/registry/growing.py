"""A blob that is sent while it arrives: the reading side of `arrival`, on an event loop."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from hakobune.oci.digest import Digest
from hakobune.registry.arrival import Phase, State, data_path, read_state, state_path
from hakobune.registry.inotify import CLOSED_WRITER, Watcher


class BrokenBodyError(Exception):
    """The rest of a body will not come; what was sent of it cannot be completed. The text says why, for the log."""


class Growth:
    """One arriving file as one process sees it, for all who read it there.

    Attributes:
        orphaned: called when the fetching process is gone and has not finished.
        forgotten: called when nobody reads it here any more.
    """

    def __init__(self, folder: Path, digest: Digest, watcher: Watcher) -> None:
        """See `open_growth`.

        Raises:
            FileNotFoundError: nobody fetches it (any more).
        """
        self.digest = digest
        self.orphaned: Callable[[], None] | None = None
        self.forgotten: Callable[[], None] | None = None
        self._data_path = data_path(folder, digest)
        self._state = os.open(state_path(folder, digest), os.O_RDONLY | os.O_CLOEXEC)
        self._data = -1
        self._watcher = watcher
        try:
            self._watch = watcher.watch(self._state, self._changed)
        except OSError:
            os.close(self._state)
            raise
        self._users = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.closed = False

    def state(self) -> State:
        """What is known now."""
        return read_state(self._state)

    def ended(self) -> bool:
        """Whether the fetching process has closed it."""
        return os.fstat(self._state).st_nlink == 0

    def open_data(self) -> int:
        """The descriptor of the bytes, and the note that somebody reads them.

        Raises:
            FileNotFoundError: they have been moved to where committed blobs are.
        """
        if self._data < 0:
            self._data = os.open(self._data_path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._data, fcntl.LOCK_SH)
        return self._data

    async def changed(self) -> None:
        """Wait until something may have changed since the last `state` (without an `await` between)."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def hold(self) -> None:
        """One user more."""
        self._users += 1

    def release(self) -> None:
        """One user less; with the last one it is closed."""
        self._users -= 1
        if self._users <= 0 and not self.closed:
            self.closed = True
            self._watcher.unwatch(self._watch)
            os.close(self._state)
            if self._data >= 0:
                os.close(self._data)
                self._data = -1
            if self.forgotten is not None:
                self.forgotten()

    def _changed(self, kinds: int) -> None:
        if kinds & CLOSED_WRITER and self.orphaned is not None:
            state = self.state()
            if state.phase in (Phase.BEGUN, Phase.FLOWING):
                self.orphaned()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Growing:
    """A blob whose beginning is here. One client's; `close` it, or the fetch goes on for a client who is gone.

    Attributes:
        size: of the whole blob, in bytes.
        file: open for reading (sendfile); it is this object's to close.
    """

    def __init__(self, growth: Growth, size: int) -> None:
        self.size = size
        self._growth = growth
        self.file = growth.open_data()
        growth.hold()
        self._open = True

    def sendable(self) -> int:
        """How many bytes from the file's beginning may be sent now.

        Raises:
            BrokenBodyError: no more will come.
        """
        state = self._growth.state()
        if state.phase is Phase.FAILED:
            raise BrokenBodyError(state.note)
        if state.size not in (-1, self.size):
            raise BrokenBodyError(f"the upstream said {self.size} bytes before, now {state.size}")
        return state.sendable

    async def wait(self, beyond: int) -> int:
        """What `sendable` says, as soon as that is more than *beyond* (which is less than `size`).

        Raises:
            BrokenBodyError: no more will come.
        """
        while (count := self.sendable()) <= beyond:
            await self._growth.changed()
        return count

    def close(self) -> None:
        """Read no more."""
        if self._open:
            self._open = False
            self._growth.release()
