"""TLS inside of TLS: what goes to a host through a proxy that is itself spoken to by TLS.

`ssl` wraps only sockets of the kernel; here an `SSLObject` between two buffers does the inner half.
"""

from __future__ import annotations

import io
import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_RECORDS: Final = 64 << 10  # how much of the outer connection is read at once

_Result = TypeVar("_Result")


class NestedTls:
    """A TLS connection over *outer*, with what `http.client` needs of a socket. It owns *outer*.

    As with a socket, `close` ends it only when the files of `makefile` are closed, too.

    Raises:
        OSError: there is no connection within the time; no trust in *host*'s certificate.
    """

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext, host: str) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._files = 0
        self._closed = False
        self._run(self._tls.do_handshake)

    def sendall(self, data: ReadableBuffer) -> None:
        view = memoryview(data).cast("B")
        while view:
            view = view[self._run(partial(self._tls.write, view)) :]

    def recv_into(self, buffer: memoryview) -> int:
        """Some bytes; 0 at the end, whether it was announced or the connection was cut (HTTP knows its lengths)."""
        try:
            data = self._run(partial(self._tls.read, len(buffer)))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0
        buffer[: len(data)] = data
        return len(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """A file to read from, whatever *mode* says: `http.client` asks for no other."""
        self._files += 1
        return io.BufferedReader(_File(self))

    def settimeout(self, seconds: float | None) -> None:
        self._outer.settimeout(seconds)

    def fileno(self) -> int:
        return self._outer.fileno()

    def close(self) -> None:
        self._closed = True
        self._close_if_unused()

    def file_closed(self) -> None:
        self._files -= 1
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._closed and self._files == 0:
            self._outer.close()

    def _run(self, step: Callable[[], _Result]) -> _Result:
        """Do *step*; send what it wants to send, and fetch what it waits for, until it is done."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._outer.recv(_RECORDS):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                self._flush()  # the other end learns why
                raise
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._outer.sendall(data)


class _File(io.RawIOBase):
    def __init__(self, tls: NestedTls) -> None:
        super().__init__()
        self._tls = tls

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        return self._tls.recv_into(memoryview(buffer).cast("B"))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._tls.file_closed()
