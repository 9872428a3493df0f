"""What goes out of a connection: small answers through the transport, files past it.

Order is kept: a file starts when everything before it has left the transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from hakobune.registry.answer import Answer, FilePart, StreamPart, write_head
from hakobune.registry.arriving import ClientGoneError
from hakobune.registry.limits import Phase, Watch
from hakobune.registry.send import FileSender

_COPY: Final = 256 * 1024
_NO_LENGTH: Final = (204, 304)
_JOINED: Final = 64 * 1024  # a body up to here goes out in one piece with its head

Done = Callable[[OSError | None], None]


class Outlet:
    """The sending half of one connection."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, watch: Watch
    ) -> None:
        self.transport = transport
        self.gone = False
        self._loop = loop
        self._watch = watch
        self._encrypted = transport.get_extra_info("sslcontext") is not None
        # A duplicate of the transport's, made at the first file.
        self._out: socket.socket | None = None
        self._full: asyncio.Future[None] | None = None  # until the transport takes more
        self._sender: FileSender | None = None
        self._done: Done | None = None
        self._waiting: asyncio.Task[int] | None = None  # for more of a file that is still growing
        self._queued = 0  # bytes that the transport held when `drain` began to wait

    @property
    def is_full(self) -> bool:
        """Whether the client does not read what it asked for."""
        return self._full is not None

    @property
    def can_send_file_now(self) -> bool:
        """Whether `start_file` may be called."""
        return not self._encrypted and not self.gone and not self.transport.get_write_buffer_size()

    def pause(self) -> None:
        if self._full is None:
            self._full = self._loop.create_future()

    def resume(self) -> None:
        full, self._full = self._full, None
        if full is not None and not full.done():
            full.set_result(None)

    def lost(self) -> None:
        """The connection is no more."""
        self.gone = True
        self.resume()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._sender is not None:
            self._sender.stop()
            self._file_done(ConnectionResetError("the connection was closed"))
        if self._out is not None:
            self._out.close()
            self._out = None

    def note_progress(self, watch: Watch) -> None:
        """Tell *watch* how far the file on its way has come."""
        if self._sender is not None:
            watch.progress = self._sender.progress
        elif self._full is not None:
            watch.progress = self._queued - self.transport.get_write_buffer_size()

    def write(self, head: bytes, body: bytes = b"") -> None:
        if len(body) <= _JOINED:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    async def drain(self) -> None:
        """Wait until the transport takes more.

        Raises:
            ClientGoneError: it never will.
        """
        if self._full is not None:
            self._watch.enter(Phase.SENDING, time.monotonic())
            self._queued = self.transport.get_write_buffer_size()
            await self._full
        if self.gone:
            raise ClientGoneError("the connection was closed")

    def start_file(self, file: int, offset: int, count: int, head: bytes, done: Done) -> None:
        """Send *head* and a part of *file*; *done* is called at once or later, with the error if there is one."""
        if self._out is None:
            descriptor = self.transport.get_extra_info("socket").fileno()
            self._out = socket.socket(fileno=os.dup(descriptor))
        self._done = done
        self._sender = FileSender(
            self._loop,
            self._out,
            file,
            head=head,
            offset=offset,
            count=count,
            done=self._file_done,
        )
        self._sender.turn()

    async def send_answer(self, answer: Answer, *, with_body: bool, close: bool) -> int:
        """Send a whole answer; how many bytes of its body. One that was in memory may be in the transport still.

        Args:
            close: the head says that the connection ends with it.

        Raises:
            ClientGoneError: the client is.
            Exception: there is less to send than was promised: the connection must be cut.
        """
        part = answer.body
        if isinstance(part, bytes):
            length = len(part) if answer.length is None else answer.length
        else:
            length = part.count
        known = None if answer.status in _NO_LENGTH else length
        head = write_head(answer.status, answer.headers, length=known, close=close)
        if isinstance(part, bytes):
            content = part if with_body else b""
            self.write(head, content)
            return len(content)
        with contextlib.closing(part):
            if not with_body:
                self.write(head)
                return 0
            if isinstance(part, FilePart):
                return await self.send_file(part, head)
            return await self.send_stream(part, head)

    async def send_file(self, part: FilePart, head: bytes) -> int:
        """Send *head* and *part*, waiting for what is still being written; how many bytes of the file.

        Raises:
            ClientGoneError: the client is.
            Exception: there is less to send than was promised: the connection must be cut.
        """
        at, end = part.offset, part.offset + part.count
        if part.growing is not None or at == end:  # who waits should know that it will come
            self.write(head)
            head = b""
        while at < end:
            until = end
            if part.growing is not None:
                self._watch.enter(Phase.WORKING, time.monotonic())
                until = min(end, await self._unless_lost(part.growing.wait(at)))
            await self._send_range(part.descriptor, at, until - at, head)
            head = b""
            at = until
        if head:  # of an empty file
            self.write(head)
        return part.count

    async def _unless_lost(self, more: Coroutine[Any, Any, int]) -> int:
        """Wait for more of a file; for a client who is gone nobody waits, nor fetches."""
        waiting = self._waiting = self._loop.create_task(more)
        try:
            return await waiting
        except asyncio.CancelledError:
            if self.gone:
                raise ClientGoneError("the connection was closed") from None
            raise
        finally:
            self._waiting = None

    async def send_stream(self, part: StreamPart, head: bytes) -> int:
        """Send *head* and *part* piece by piece; how many bytes of it.

        Raises:
            ClientGoneError: the client is.
            Exception: reading has failed: the connection must be cut.
        """
        pieces = part.read(part.offset, part.count)
        self.transport.write(head)
        sent = 0
        while piece := await self._loop.run_in_executor(part.threads, next, pieces, b""):
            sent += len(piece)
            self.transport.write(piece)
            await self.drain()
        if sent != part.count:
            raise OSError("the storage has given less than was promised of it")
        return sent

    async def _send_range(self, file: int, offset: int, count: int, head: bytes) -> None:
        self._watch.enter(Phase.SENDING, time.monotonic())
        if self._encrypted:
            await self._copy(file, offset, count, head)
            return
        while not self.can_send_file_now:
            if self.gone:
                raise ClientGoneError("the connection was closed")
            await asyncio.sleep(0 if self._full is None else 0.005)
        future: asyncio.Future[None] = self._loop.create_future()

        def done(error: OSError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            elif isinstance(error, ConnectionError | TimeoutError):
                future.set_exception(ClientGoneError(str(error)))
            else:
                future.set_exception(error)

        self.start_file(file, offset, count, head, done)
        await future

    async def _copy(self, file: int, offset: int, count: int, head: bytes) -> None:
        self.transport.write(head)
        while count:
            piece = os.pread(file, min(count, _COPY), offset)
            if not piece:
                raise OSError("the file is shorter than what was promised of it")
            self.transport.write(piece)
            offset += len(piece)
            count -= len(piece)
            if self._full is not None:
                await self._full
            if self.gone:
                raise ClientGoneError("the connection was closed")
            self._watch.progress += len(piece)

    def _file_done(self, error: OSError | None) -> None:
        self._sender = None
        done, self._done = self._done, None
        if done is not None:
            done(error)
