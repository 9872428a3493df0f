"""Being told when files change, whichever process changes them (inotify(7)); one descriptor an event loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from typing import Final

MODIFIED: Final = 0x2
CLOSED_WRITER: Final = 0x8
_ATTRIBUTES: Final = 0x4  # a link less: it was unlinked
_EVENT: Final = struct.Struct("iIII")
_READ_SIZE: Final = 64 << 10

Changed = Callable[[int], None]
"""Gets the kinds of change, MODIFIED | CLOSED_WRITER."""


class Watcher:
    """Calls back on the event loop when a watched file has changed. `close` ends it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: dict[int, Changed] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._check(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        loop.add_reader(self._descriptor, self._read)

    def watch(self, descriptor: int, changed: Changed) -> int:
        """Watch an open file, wherever its name goes; gives what `unwatch` takes.

        Raises:
            OSError: there are too many watches.
        """
        path = f"/proc/self/fd/{descriptor}".encode()
        mask = MODIFIED | CLOSED_WRITER | _ATTRIBUTES
        watch = self._check(self._libc.inotify_add_watch(self._descriptor, path, mask))
        self._calls[watch] = changed
        return watch

    def unwatch(self, watch: int) -> None:
        """Watch no longer; to be called before the file is closed."""
        if self._calls.pop(watch, None) is not None:
            self._libc.inotify_rm_watch(self._descriptor, watch)

    def close(self) -> None:
        """Stop watching all."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._calls.clear()

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return
        kinds: dict[int, int] = {}
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            # -1: the queue was full, anything may have changed.
            for known in (watch,) if watch >= 0 else tuple(self._calls):
                kinds[known] = kinds.get(known, 0) | (mask if watch >= 0 else MODIFIED)
        for watch, mask in kinds.items():
            if call := self._calls.get(watch):
                call(mask)

    @staticmethod
    def _check(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify: {os.strerror(number)}")
        return result
