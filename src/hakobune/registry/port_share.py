"""One TCP port for several workers: each gets a listening socket of its own, among which the kernel spreads connections.

With one socket for all, whoever wakes first accepts everything that waits. The parent keeps all of them, so the
connections of a worker that died wait for the next one.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from hakobune.registry.sockets import BACKLOG


def share(listeners: Sequence[socket.socket], workers: int) -> list[tuple[socket.socket, ...]]:
    """For each worker its sockets, one for each of *listeners*, which are the first worker's.

    What cannot be opened a second time is shared.
    """
    columns = [_multiply(listener, workers) for listener in listeners]
    return [tuple(column[number] for column in columns) for number in range(workers)]


def _multiply(listener: socket.socket, count: int) -> list[socket.socket]:
    """SO_REUSEPORT also joins a socket that listens already, if it has the same owner (socket(7))."""
    made = [listener]
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        while len(made) < count:
            made.append(_another(listener))
    except OSError:
        made += [listener] * (count - len(made))
    return made


def _another(listener: socket.socket) -> socket.socket:
    other = socket.socket(listener.family, socket.SOCK_STREAM)
    try:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listener.family == socket.AF_INET6:
            only = listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        other.bind(listener.getsockname())
        other.listen(BACKLOG)
        other.setblocking(False)
    except OSError:
        other.close()
        raise
    return other
