"""A TCP connection to a host of several addresses: who does not answer soon is overtaken by the next (RFC 8305 "5. Connection Attempts")."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import Final

HEAD_START_S: Final = 0.25
"""How long an address is tried alone ("Connection Attempt Delay")."""

Address = tuple[socket.AddressFamily, tuple[str | int | bytes, ...]]


def dial(host: str, port: int, timeout_s: float) -> socket.socket:
    """A connection to the first address that answers; waits on it end after *timeout_s*, too.

    Raises:
        TimeoutError: none has answered after *timeout_s*.
        OSError: the name has no address; or all refuse: the error of the one that was to be preferred.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = take_turns([(family, address) for family, _, _, _, address in found])
    with _Race() as race:
        sock = race.run(addresses, timeout_s)
    sock.settimeout(timeout_s)
    return sock


def take_turns(addresses: Sequence[Address]) -> list[Address]:
    """One of the first address's family, one of another, and so on, each family in its order (pure)."""
    if not addresses:
        return []
    first = [a for a in addresses if a[0] == addresses[0][0]]
    others = [a for a in addresses if a[0] != addresses[0][0]]
    return [a for a in chain(*zip_longest(first, others)) if a is not None]


class _Race:
    """Sockets that are connecting. A context manager: leaving it closes all but the one that has won."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._running: set[socket.socket] = set()
        self._failures: list[OSError] = []

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._running:
            sock.close()
        self._selector.close()

    def run(self, addresses: Iterable[Address], timeout_s: float) -> socket.socket:
        left = list(addresses)
        now = time.monotonic()
        end, next_start = now + timeout_s, now
        while left or self._running:
            if left and (now >= next_start or not self._running):
                next_start = now + HEAD_START_S
                self._start(*left.pop(0))
            elif now >= end:
                raise TimeoutError("timed out")
            until = min(end, next_start) if left else end
            failures = len(self._failures)
            winner = self._wait(max(0.0, until - time.monotonic()))
            if winner is not None:
                return winner
            now = time.monotonic()
            if len(self._failures) > failures:
                next_start = now
        raise self._failures[0]

    def _start(self, family: socket.AddressFamily, address: tuple[str | int | bytes, ...]) -> None:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # a kernel without IPv6
            self._failures.append(error)
            return
        self._running.add(sock)
        sock.setblocking(False)
        try:
            with contextlib.suppress(BlockingIOError):
                sock.connect(address)
        except OSError as error:  # no route to that family
            self._give_up(sock, error)
        else:
            self._selector.register(sock, selectors.EVENT_WRITE)

    def _wait(self, seconds: float) -> socket.socket | None:
        """Who has connected within that time; `None` if nobody has, or somebody has failed."""
        if not self._running:
            return None
        for key, _ in self._selector.select(seconds):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            self._selector.unregister(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not number:
                self._running.discard(sock)
                return sock
            self._give_up(sock, OSError(number, os.strerror(number)))
        return None

    def _give_up(self, sock: socket.socket, error: OSError) -> None:
        self._failures.append(error)
        self._running.discard(sock)
        sock.close()
