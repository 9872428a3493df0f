"""The supervisor's socket: connections, lines in, lines out, subscribers. What the verbs do is elsewhere."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hakobune.errors import HakoError
from hakobune.runtime.event import Event
from hakobune.runtime.loop import READ, WRITE, Loop
from hakobune.runtime.protocol import (
    MAX_LINE_BYTES,
    ProtocolError,
    Request,
    decode_request,
    encode_error,
    encode_event,
    encode_reply,
)

GROUP = "hakobune"
_MAX_BACKLOG_BYTES = 32 << 20


class Call:
    """One request and the connection that waits for its answer, which comes once."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self.connection = connection
        self.request = request

    def answer(self, value: Any) -> None:
        self.connection.send(encode_reply(self.request.id, value))

    def fail(self, error: HakoError) -> None:
        self.connection.send(encode_error(self.request.id, error))


class Connection:
    """One client."""

    def __init__(self, loop: Loop, server: Server, peer: socket.socket) -> None:
        self.subscribed = False
        self._loop = loop
        self._server = server
        self._socket = peer
        self._received = bytearray()
        self._unsent = bytearray()
        self._closed = False
        peer.setblocking(False)
        loop.on_readable(peer.fileno(), self._ready)

    def send(self, line: bytes) -> None:
        """Send now what can be sent; a client that reads nothing is dropped in the end."""
        if self._closed:
            return
        self._unsent += line
        self._flush()
        if len(self._unsent) > _MAX_BACKLOG_BYTES:
            self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._server.forget(self)

    def drain(self, timeout_s: float) -> None:
        """Send what is unsent before this process ends."""
        if not self._closed and self._unsent:
            self._socket.settimeout(timeout_s)
            with contextlib.suppress(OSError):
                self._socket.sendall(self._unsent)

    def _ready(self) -> None:
        if self._unsent:
            self._flush()
        try:
            data = self._socket.recv(256 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        self._take_lines()

    def _take_lines(self) -> None:
        while not self._closed and (end := self._received.find(b"\n")) >= 0:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            self._server.receive(self, line)
        if len(self._received) > MAX_LINE_BYTES:
            self.close()

    def _flush(self) -> None:
        if self._closed:
            return
        try:
            sent = self._socket.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._unsent[:sent]
        interest = READ | WRITE if self._unsent else READ
        self._loop.set_interest(self._socket.fileno(), interest, self._ready)


class Server:
    """Listens on a unix socket that root and the group `hakobune` may use, and calls *handle* for each request."""

    def __init__(self, loop: Loop, listener: socket.socket, handle: Callable[[Call], None]) -> None:
        self.listener = listener
        self._loop = loop
        self._handle = handle
        self._connections: set[Connection] = set()
        listener.setblocking(False)
        loop.on_readable(listener.fileno(), self._accept)

    def publish(self, event: Event) -> None:
        """Tell every subscriber."""
        subscribers = [c for c in self._connections if c.subscribed]
        if subscribers:
            line = encode_event(event)
            for connection in subscribers:
                connection.send(line)

    def receive(self, connection: Connection, line: bytes) -> None:
        try:
            request = decode_request(line)
        except ProtocolError as error:
            connection.send(encode_error(0, error))
            connection.drain(1.0)
            connection.close()
            return
        call = Call(connection, request)
        try:
            self._handle(call)
        except HakoError as error:
            call.fail(error)

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def stop_listening(self) -> None:
        self._loop.forget(self.listener.fileno())
        self.listener.close()

    def close(self) -> None:
        """Send what is owed and close every connection."""
        for connection in list(self._connections):
            connection.drain(1.0)
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            peer, _ = self.listener.accept()
            self._connections.add(Connection(self._loop, self, peer))


def listen(path: Path, *, backlog: int = 128) -> socket.socket:
    """A listening socket at *path*, 0660 and the group `hakobune`'s where there is that group."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    with contextlib.suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        os.chmod(path, 0o660)
    listener.listen(backlog)
    return listener
