"""Published ports: sockets on the host that lead into a container, opened before it is made.

A port that is taken is an error before anything starts. Without an address a port is open on loopback only, IPv4
and IPv6: what shall be seen from outside says so. (docker opens all addresses, past the machine's firewall.)
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from hakobune.runtime.container import ContainerError, PublishedPort
from hakobune.runtime.sockets import listening_sockets

LOOPBACK = ("127.0.0.1", "::1")
_TRIES = 20  # for one port that is free on both loopbacks


@dataclass(slots=True)
class OpenPorts:
    """Sockets that are bound already, with the ports as they became. Close them once a forwarder has them."""

    ports: tuple[PublishedPort, ...] = ()
    sockets: list[tuple[socket.socket, PublishedPort]] = field(default_factory=list)

    def close(self) -> None:
        for opened, _ in self.sockets:
            opened.close()
        self.sockets.clear()


def open_ports(ports: Sequence[PublishedPort]) -> OpenPorts:
    """Bind and listen on every port.

    Raises:
        ContainerError: kind `port`; one is taken, not allowed or not this machine's. Nothing stays open.
    """
    opened = OpenPorts()
    try:
        for port in ports:
            sockets, number = _open(port)
            known = replace(port, host_port=number)
            opened.sockets += [(s, known) for s in sockets]
            opened.ports = (*opened.ports, known)
    except BaseException:
        opened.close()
        raise
    return opened


@contextlib.contextmanager
def forwarding(opened: OpenPorts, address: str | None) -> Iterator[None]:
    """Carry what arrives to *address* while the block lasts, and not a moment longer than this process."""
    if not opened.sockets or address is None:
        yield
        return
    end, life = os.pipe2(os.O_CLOEXEC)
    try:
        process = start_forwarder(opened, address, until=end)
    except BaseException:
        os.close(life)
        raise
    finally:
        os.close(end)
    opened.close()
    try:
        yield
    finally:
        os.close(life)
        process.wait()


def start_forwarder(opened: OpenPorts, address: str, *, until: int) -> subprocess.Popen[bytes]:
    """A process that serves the sockets until *until* becomes readable; close ours then."""
    routes = [
        {
            "fd": s.fileno(),
            "protocol": port.protocol,
            "address": address,
            "port": port.container_port,
        }
        for s, port in opened.sockets
    ]
    return subprocess.Popen(
        [
            sys.executable,
            "-I",
            "-m",
            "hakobune.runtime.port_forwarder",
            str(until),
            json.dumps(routes),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[until, *(s.fileno() for s, _ in opened.sockets)],
        start_new_session=True,
        cwd="/",
    )


def _open(port: PublishedPort) -> tuple[list[socket.socket], int]:
    if port.host_address:
        opened = _bind(port, port.host_address, port.host_port)
        return [opened], opened.getsockname()[1]
    for attempt in range(_TRIES):
        first = _bind(port, LOOPBACK[0], port.host_port)
        number: int = first.getsockname()[1]
        try:
            return [first, _bind(port, LOOPBACK[1], number)], number
        except ContainerError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in (
                errno.EADDRNOTAVAIL,
                errno.EAFNOSUPPORT,
            ):
                return [first], number  # this machine has no IPv6
            first.close()
            if port.host_port or attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _bind(port: PublishedPort, address: str, number: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    opened = None
    try:
        opened = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, number))
        if kind == socket.SOCK_STREAM:
            opened.listen(1024)
    except OSError as error:
        if opened is not None:
            opened.close()
        raise _refused(port, address, error) from error
    return opened


def _refused(port: PublishedPort, address: str, error: OSError) -> ContainerError:
    what = f"cannot publish {port}"
    if error.errno == errno.EADDRINUSE:
        return ContainerError(
            what,
            why=f"{_owner(port.host_port)} has port {port.host_port} of {address}",
            fix=f"end it, or choose another: -p {port.host_port + 1}:{port.container_port}",
            kind="port",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ContainerError(
            what,
            why=f"this machine has no address {address}",
            fix="`ip address` lists them",
            kind="port",
        )
    return ContainerError(what, why=f"{address}: {error.strerror or error}", kind="port")


def _owner(port: int) -> str:
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    for found in listening_sockets(os.getpid(), pids):
        if found.port == port and found.pid is not None:
            return f"{found.command.split()[0] if found.command else 'a process'} (pid {found.pid})"
    return "another process"
