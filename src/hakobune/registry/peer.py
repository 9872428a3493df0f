"""Who is at the other end of a connection, as far as the kernel says."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SOCKET_GROUP: Final = "hakobune"
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end.

    Attributes:
        owner: it is this machine's own user of the installation, proven by the kernel.
        address: for the log; what a proxy says comes per request.
        via_proxy: another process speaks for the client: `X-Forwarded-…` may be believed.
        is_encrypted: the client has used TLS with us.
    """

    owner: bool
    address: str
    via_proxy: bool = False
    is_encrypted: bool = False


PeerOf = Callable[[asyncio.BaseTransport], Peer]


def tcp_peer(transport: asyncio.BaseTransport) -> Peer:
    """The peer of a TCP connection."""
    name = transport.get_extra_info("peername")
    address = name[0] if isinstance(name, tuple) else "-"
    return Peer(False, address, is_encrypted=transport.get_extra_info("sslcontext") is not None)


def proxy_peer(transport: asyncio.BaseTransport) -> Peer:
    """The peer of a connection from HAProxy."""
    return Peer(False, "proxy", via_proxy=True)


def owner_peer_of(home_owner: int) -> PeerOf:
    """How to judge connections to the socket of this machine's own users.

    Args:
        home_owner: the uid that the home belongs to.
    """
    group = _group_id()

    def peer_of(transport: asyncio.BaseTransport) -> Peer:
        descriptor = os.dup(transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=descriptor) as own:
            credentials = own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            groups = _peer_groups(own)
        _, uid, gid = _CREDENTIALS.unpack(credentials)
        owner = uid in (0, home_owner) or (group is not None and group in (gid, *groups))
        return Peer(owner, f"uid:{uid}")

    return peer_of


def _peer_groups(own: socket.socket) -> tuple[int, ...]:
    try:
        data = own.getsockopt(socket.SOL_SOCKET, 59, 4096)  # SO_PEERGROUPS, not named by Python
    except OSError:
        return ()
    return struct.unpack(f"{len(data) // 4}I", data[: len(data) // 4 * 4])


def _group_id() -> int | None:
    try:
        return grp.getgrnam(SOCKET_GROUP).gr_gid
    except KeyError:
        return None
