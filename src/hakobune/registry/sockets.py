"""What the registry listens on: sockets that the supervisor holds for it (sd_listen_fds(3)), or its own."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakobune.errors import HakoError
from hakobune.registry.peer import SOCKET_GROUP
from hakobune.settings import Settings

_FIRST_DESCRIPTOR: Final = 3
BACKLOG: Final = 4096


@dataclass(frozen=True, slots=True)
class Sockets:
    """Listening sockets, non-blocking and closed at exec; workers inherit them by fork.

    Attributes:
        owner: `run/registry.sock`: who connects is known by its process.
        proxy: `run/registry-tcp.sock`: what HAProxy forwards.
        own_port: the registry's own TCP port, by each of its addresses; may be none.
    """

    owner: socket.socket
    proxy: socket.socket
    own_port: tuple[socket.socket, ...]

    def close(self) -> None:
        for listener in (self.owner, self.proxy, *self.own_port):
            listener.close()


def open_sockets(settings: Settings, env: MutableMapping[str, str]) -> Sockets:
    """Take over the sockets that the supervisor gave this process, or open all of them.

    Args:
        env: this process's environment; what tells of inherited sockets is taken out of it.

    Raises:
        HakoError: an address is taken or none of this machine's; it is named.
    """
    inherited = _inherited(env)
    if inherited:
        return _sorted(inherited, settings)
    with contextlib.ExitStack() as opened:
        settings.run.mkdir(parents=True, exist_ok=True)
        own_port = _open_port(settings.registry_listen, opened)
        owner = opened.enter_context(_open_unix(settings.registry_socket))
        proxy = opened.enter_context(_open_unix(settings.registry_tcp_socket))
        opened.pop_all()
    return Sockets(owner, proxy, own_port)


def _inherited(env: MutableMapping[str, str]) -> list[socket.socket]:
    count, pid = env.pop("LISTEN_FDS", "0"), env.pop("LISTEN_PID", "")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    listeners = [socket.socket(fileno=_FIRST_DESCRIPTOR + n) for n in range(int(count))]
    for listener in listeners:
        listener.set_inheritable(False)
        listener.setblocking(False)
    return listeners


def _sorted(listeners: Sequence[socket.socket], settings: Settings) -> Sockets:
    """Which is which: each knows its own address."""
    unix = {s.getsockname(): s for s in listeners if s.family == socket.AF_UNIX}
    try:
        owner = unix[str(settings.registry_socket)]
        proxy = unix[str(settings.registry_tcp_socket)]
    except KeyError as error:
        raise HakoError(
            "the registry was started with other sockets than its own",
            why=f"{error.args[0]} is not among them",
        ) from error
    return Sockets(owner, proxy, tuple(s for s in listeners if s.family != socket.AF_UNIX))


def _open_port(
    listen: tuple[str, int] | None, opened: contextlib.ExitStack
) -> tuple[socket.socket, ...]:
    if listen is None:
        return ()
    host, port = listen
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    listeners = []
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        try:
            listeners.append(opened.enter_context(_listen(family, address)))
        except OSError as error:
            if family == socket.AF_INET6 and host == "localhost" and listeners:
                continue  # a machine without IPv6
            raise _cannot_listen(host, port, error) from error
    return tuple(listeners)


def _listen(family: int, address: object) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)  # type: ignore[arg-type] # as getaddrinfo gave it
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _open_unix(path: Path) -> socket.socket:
    """A socket at *path*, for its user and the group hakobune; what a dead process has left there is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise HakoError(
            f"cannot listen on {path}",
            why=error.strerror or str(error),
            fix="a path has at most 107 bytes: give a shorter HAKO_HOME",
        ) from error
    finally:
        os.umask(before)
    with contextlib.suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(SOCKET_GROUP).gr_gid)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> HakoError:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return HakoError(
        f"the registry cannot listen on {shown}",
        why=error.strerror or str(error),
        fix="end the program that does (`ss -ltnp` names it), or give another address: "
        "--listen HOST:PORT or HAKO_REGISTRY_LISTEN",
    )
