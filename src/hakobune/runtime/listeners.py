"""Listening sockets that the supervisor holds for a program: connections queue while the program is started again.

A program finds them as descriptors from `FIRST_DESCRIPTOR` on, in the order in which it asked for them, as in systemd's
socket activation (sd_listen_fds(3)). An address is that of a TCP socket, or the path of a unix socket. They live as long as one process has them: the program keeps its own when the
supervisor is killed, and the next supervisor takes copies from it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from hakobune.runtime import linux
from hakobune.runtime.container import ContainerError
from hakobune.runtime.server import listen

FIRST_DESCRIPTOR = 3
BACKLOG = 4096


def join_address(host: str, port: int) -> str:
    """`127.0.0.1:8080` or `[::1]:8080`: how an address is written in the protocol."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(text: str) -> tuple[str, int]:
    """IP address and port of an address in the protocol.

    Raises:
        ValueError: it is none.
    """
    host, _, port = text.rpartition(":")
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)


class Listeners:
    """The sockets of one program, by address.

    Args:
        kept: open ones that an upgrade left to us.
    """

    def __init__(self, kept: Mapping[str, int] | None = None) -> None:
        self._sockets = {a: socket.socket(fileno=fd) for a, fd in (kept or {}).items()}

    def hold(self, addresses: Iterable[str]) -> None:
        """Open those of *addresses* that are not open yet: all of them or none.

        Raises:
            ContainerError: `in_use`: another program listens on one of them, or it is none of this machine's.
        """
        opened: dict[str, socket.socket] = {}
        try:
            for address in addresses:
                if address not in self._sockets and address not in opened:
                    opened[address] = _listen(address)
        except BaseException:
            for listener in opened.values():
                listener.close()
            raise
        self._sockets |= opened

    def regain(self, pidfd: int, addresses: Iterable[str]) -> None:
        """Take copies of what the program of *pidfd* holds; what it has closed is left out."""
        for number, address in enumerate(addresses, FIRST_DESCRIPTOR):
            if address in self._sockets:
                continue
            with contextlib.suppress(OSError, ValueError):
                copy = socket.socket(fileno=linux.pidfd_getfd(pidfd, number))
                if _is_at(copy, address):
                    self._sockets[address] = copy
                else:
                    copy.close()

    def close_others(self, addresses: Iterable[str] = ()) -> None:
        """Close all but *addresses*."""
        kept = set(addresses)
        for address in self._sockets.keys() - kept:
            self._sockets.pop(address).close()
            if _is_path(address):
                with contextlib.suppress(OSError):
                    os.unlink(address)

    def descriptors(self) -> dict[str, int]:
        """The open ones."""
        return {address: listener.fileno() for address, listener in self._sockets.items()}


def _is_path(address: str) -> bool:
    return address.startswith("/")


def _is_at(listener: socket.socket, address: str) -> bool:
    name = listener.getsockname()
    if _is_path(address):
        return bool(name == address)
    return bool(name[:2] == split_address(address))


def _listen(address: str) -> socket.socket:
    if _is_path(address):
        return _listen_at_path(address)
    host, port = split_address(address)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # No SO_REUSEPORT: a second group member that nobody accepts on would swallow its share of connections.
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ContainerError(
            f"cannot listen on {address}",
            why=error.strerror or str(error),
            fix="end the program that does, or choose another address",
            kind="in_use",
        ) from error
    return listener


def _listen_at_path(path: str) -> socket.socket:
    """What a program that was killed has left lying there is replaced; a program that answers is not."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(1.0)
        probe.connect(path)
        raise ContainerError(
            f"cannot listen on {path}", why="another program does", fix="end it", kind="in_use"
        )
    try:
        return listen(Path(path), backlog=BACKLOG)
    except OSError as error:
        raise ContainerError(
            f"cannot listen on {path}", why=error.strerror or str(error), kind="in_use"
        ) from error
