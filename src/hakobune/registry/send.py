"""Files to sockets by sendfile, on a duplicate of the transport's descriptor.

uvloop has no `sendfile` and lets nobody watch a transport's own descriptor; a duplicate it does. A turn sends a
MiB at most, then others have theirs. The file is open while it is sent, so deleting it does not cut a transfer.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

_TURN: Final = 1024 * 1024


class FileSender:
    """Sends *head* and then a part of a file; calls *done* once, with the error if there is one.

    *progress* is the number of bytes that the kernel has taken, head included. It owns neither descriptor.
    """

    __slots__ = ("_done", "_file", "_head", "_loop", "_offset", "_out", "_remaining", "_waits", "progress")  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        out: socket.socket,
        file: int,
        *,
        head: bytes,
        offset: int,
        count: int,
        done: Callable[[OSError | None], None],
    ) -> None:
        self._loop = loop
        self._out = out
        self._file = file
        self._head = head
        self._offset = offset
        self._remaining = count
        self._done = done
        self._waits = False
        self.progress = 0

    def turn(self) -> None:
        """Send what the socket takes now, and come back when it takes more."""
        try:
            finished = self._send()
        except BlockingIOError:
            finished = False
        except OSError as error:
            self.stop()
            self._done(error)
            return
        if finished:
            self.stop()
            self._done(None)
        elif not self._waits:
            self._waits = True
            self._loop.add_writer(self._out.fileno(), self.turn)

    def stop(self) -> None:
        """Send no more; *done* is not called by this."""
        if self._waits:
            self._waits = False
            self._loop.remove_writer(self._out.fileno())

    def _send(self) -> bool:
        while self._head:
            more = socket.MSG_MORE if self._remaining else 0
            sent = self._out.send(self._head, more)
            self._head = self._head[sent:]
            self.progress += sent
        until = self._remaining - _TURN
        while self._remaining:
            if self._remaining <= until:
                return False
            sent = os.sendfile(
                self._out.fileno(), self._file, self._offset, min(self._remaining, _TURN)
            )
            if sent == 0:
                raise OSError("the file is shorter than what was promised of it")
            self._offset += sent
            self._remaining -= sent
            self.progress += sent
        return True
