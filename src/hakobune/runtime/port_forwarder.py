"""A process that carries what arrives at published ports into one container, and ends when the container does.

Run as `python -I -m hakobune.runtime.port_forwarder UNTIL ROUTES`: *UNTIL* is a descriptor that becomes readable at
the end (a pidfd, or a pipe whose writer goes away), *ROUTES* a JSON list of inherited sockets with where each leads.
Ports are ordinary sockets of an ordinary process, so that the machine's firewall holds for them, and the kernel
frees them however it ends. Standard library only, and little of it: it is 9 MB.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
UDP_IDLE_S = 120.0
_BLOCK = 256 << 10
_DATAGRAM = 65536
_MOST_PEERS = 4096


@dataclass(frozen=True, slots=True)
class Route:
    """An open socket and the address of the container behind it."""

    fd: int
    protocol: str
    address: str
    port: int


class Forwarder:
    """Connections and datagrams between our sockets and the container's."""

    def __init__(self, until: int, routes: list[Route]) -> None:
        self.selector = selectors.DefaultSelector()
        self._running = True
        self._paused: list[tuple[socket.socket, Callable[[int], None]]] = []
        self.selector.register(until, READ, self._stop)
        self._udp: list[_Datagrams] = []
        for route in routes:
            ours = socket.socket(fileno=route.fd)
            ours.setblocking(False)
            target = (route.address, route.port)
            if route.protocol == "udp":
                self._udp.append(_Datagrams(self, ours, target))
            else:
                self._listen(ours, target)

    def run(self) -> None:
        """Serve until told to end."""
        while self._running:
            for key, events in self.selector.select(timeout=30.0 if self._udp else None):
                if self.selector.get_map().get(key.fd) is key:
                    key.data(events)
            for datagrams in self._udp:
                datagrams.forget_idle(time.monotonic())

    def _stop(self, _: int) -> None:
        self._running = False

    def _listen(self, listener: socket.socket, target: tuple[str, int]) -> None:
        def accept(_: int) -> None:
            try:
                client, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError:  # no descriptor is free: wait until a connection ends
                self._pause(listener, accept)
                return
            try:
                Connection(self, client, target)
            except OSError:
                client.close()

        self.selector.register(listener, READ, accept)

    def _pause(self, listener: socket.socket, accept: Callable[[int], None]) -> None:
        self.selector.unregister(listener)
        self._paused.append((listener, accept))

    def resume(self) -> None:
        """A connection has ended: there is room again."""
        for listener, accept in self._paused:
            self.selector.register(listener, READ, accept)
        self._paused.clear()


class Connection:
    """One TCP connection to us and one from us; each half is closed when its source is."""

    def __init__(
        self, forwarder: Forwarder, client: socket.socket, target: tuple[str, int]
    ) -> None:
        self._forwarder = forwarder
        self._server = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._client = client
        for end in (client, self._server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            self._server.connect(target)
        self._connected = False
        self._flows = (_Flow(client, self._server), _Flow(self._server, client))
        self._interests = {client: 0, self._server: 0}
        self._want(client, 0)
        self._want(self._server, WRITE)

    def _ready(self, _: int) -> None:
        try:
            if not self._connected:
                error = self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, os.strerror(error))
                self._connected = True
            for flow in self._flows:
                flow.pump()
        except OSError:
            self._reset()
            return
        if all(flow.done for flow in self._flows):
            self._close()
            return
        there, back = self._flows
        self._want(self._client, there.reads | back.writes)
        self._want(self._server, back.reads | there.writes)

    def _want(self, end: socket.socket, events: int) -> None:
        before, self._interests[end] = self._interests[end], events
        if before == events:
            return
        if not before:
            self._forwarder.selector.register(end, events, self._ready)
        elif not events:
            self._forwarder.selector.unregister(end)
        else:
            self._forwarder.selector.modify(end, events, self._ready)

    def _reset(self) -> None:
        """What went wrong on one side is an error on the other: no ordinary end of the stream."""
        with contextlib.suppress(OSError):
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._close()

    def _close(self) -> None:
        for end in (self._client, self._server):
            self._want(end, 0)
            end.close()
        self._forwarder.resume()


class _Flow:
    """One direction of a connection; holds at most a block."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self._source = source
        self._sink = sink
        self._unsent = memoryview(b"")
        self._ended = False
        self.done = False

    @property
    def reads(self) -> int:
        return READ if not self._unsent and not self._ended else 0

    @property
    def writes(self) -> int:
        return WRITE if self._unsent else 0

    def pump(self) -> None:
        """Move what can be moved now."""
        if self.done:
            return
        try:
            if not self._unsent and not self._ended:
                data = self._source.recv(_BLOCK)
                self._unsent = memoryview(data)
                self._ended = not data
            while self._unsent:
                self._unsent = self._unsent[self._sink.send(self._unsent) :]
        except BlockingIOError:
            return
        if self._ended:
            self.done = True
            with contextlib.suppress(OSError):  # the other side has gone altogether
                self._sink.shutdown(socket.SHUT_WR)


class _Datagrams:
    """A UDP port: each peer gets a socket of its own, so that answers find back, until it is idle."""

    def __init__(self, forwarder: Forwarder, ours: socket.socket, target: tuple[str, int]) -> None:
        self._forwarder = forwarder
        self._ours = ours
        self._target = target
        self._peers: dict[object, tuple[socket.socket, float]] = {}
        forwarder.selector.register(ours, READ, self._arrived)

    def forget_idle(self, now: float) -> None:
        for peer, (theirs, used) in list(self._peers.items()):
            if now - used > UDP_IDLE_S:
                self._forget(peer, theirs)

    def _arrived(self, _: int) -> None:
        try:
            data, peer = self._ours.recvfrom(_DATAGRAM)
        except OSError:
            return
        theirs = self._peer(peer)
        if theirs is not None:
            with contextlib.suppress(OSError):
                theirs.send(data)

    def _peer(self, peer: object) -> socket.socket | None:
        known = self._peers.get(peer)
        if known is not None:
            theirs = known[0]
        elif len(self._peers) >= _MOST_PEERS:
            return None
        else:
            try:
                theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            except OSError:
                return None
            theirs.setblocking(False)
            theirs.connect(self._target)
            self._forwarder.selector.register(theirs, READ, lambda _: self._answer(peer, theirs))
        self._peers[peer] = (theirs, time.monotonic())
        return theirs

    def _answer(self, peer: object, theirs: socket.socket) -> None:
        try:
            data = theirs.recv(_DATAGRAM)
        except OSError:  # refused: nobody listens yet
            return
        self._peers[peer] = (theirs, time.monotonic())
        with contextlib.suppress(OSError):
            self._ours.sendto(data, peer)  # type: ignore[call-overload] # what recvfrom gave

    def _forget(self, peer: object, theirs: socket.socket) -> None:
        del self._peers[peer]
        self._forwarder.selector.unregister(theirs)
        theirs.close()


def main(argv: list[str]) -> int:
    """Forward until the descriptor *argv[0]* says so."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's; it goes with the container
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Forwarder(int(argv[0]), [Route(**item) for item in json.loads(argv[1])]).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
