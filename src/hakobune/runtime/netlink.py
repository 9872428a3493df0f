"""The few netlink requests that make bridges, veth pairs, addresses and routes, and ask for an nftables table.

Own code because a pair through two `ip` processes costs 11 ms and this one millisecond (rtnetlink(7), veth(4)).
A `Netlink` belongs to the network namespace in which it was opened, wherever its thread goes afterwards.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_NEWLINK, _DELLINK, _SETLINK, _NEWADDR, _NEWROUTE = 16, 17, 19, 20, 24
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_ERROR = 2
_NESTED = 0x8000

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 10, 18, 28
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_BRPORT_ISOLATED = 33
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_GATEWAY = 5
_IFF_UP = 1
_TABLE_MAIN, _PROTO_BOOT, _TYPE_UNICAST = 254, 3, 1
NETFILTER = 12
_NFT_GETTABLE = 10 << 8 | 1
_NFPROTO = {"inet": 1, "ip": 2}
_NFTA_TABLE_NAME = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One request, without its header."""

    kind: int
    flags: int
    body: bytes


class Netlink:
    """A netlink socket in the calling thread's network namespace; a context manager."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, messages: Sequence[Message]) -> None:
        """Carry out *messages* in order; the rest is not sent after one that fails.

        Raises:
            OSError: the kernel's answer to the first that failed.
        """
        for message in messages:
            self._sequence += 1
            header = struct.pack(
                "=IHHII",
                16 + len(message.body),
                message.kind,
                message.flags | _REQUEST | _ACK,
                self._sequence,
                0,
            )
            self._socket.send(header + message.body)
            self._acknowledge()

    def _acknowledge(self) -> None:
        while True:
            data = self._socket.recv(65536)
            offset = 0
            while offset < len(data):
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
                if kind == _ERROR and sequence == self._sequence:
                    (code,) = struct.unpack_from("=i", data, offset + 16)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                offset += (length + 3) & ~3


def new_bridge(name: str, mac: bytes) -> Message:
    """A bridge that is up, with an address that stays when ports come and go."""
    info = _nest(_IFLA_LINKINFO, _text(_INFO_KIND, "bridge"))
    attributes = _text(_IFLA_IFNAME, name) + _attribute(_IFLA_ADDRESS, mac) + info
    return Message(_NEWLINK, _CREATE | _EXCL, _link(up=True) + attributes)


def new_veth(name: str, *, bridge: int, peer: str, peer_mac: bytes, peer_netns_fd: int) -> Message:
    """A pair: *name* here, up, a port of *bridge*; *peer* down in the other namespace (it cannot be up before its pair)."""
    other = (
        _link()
        + _text(_IFLA_IFNAME, peer)
        + _attribute(_IFLA_ADDRESS, peer_mac)
        + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_netns_fd))
    )
    data = _nest(_INFO_DATA, _nest(_VETH_PEER, other))
    info = _nest(_IFLA_LINKINFO, _text(_INFO_KIND, "veth") + data)
    master = _attribute(_IFLA_MASTER, struct.pack("=I", bridge))
    return Message(
        _NEWLINK, _CREATE | _EXCL, _link(up=True) + _text(_IFLA_IFNAME, name) + master + info
    )


def isolate_port(index: int) -> Message:
    """The bridge port forwards to no other isolated port (ip-link(8) "bridge_slave isolated")."""
    data = _nest(_INFO_SLAVE_DATA, _attribute(_BRPORT_ISOLATED, b"\1"))
    info = _nest(_IFLA_LINKINFO, _text(_INFO_SLAVE_KIND, "bridge") + data)
    return Message(_NEWLINK, 0, _link(index=index) + info)


def link_up(index: int) -> Message:
    return Message(_NEWLINK, 0, _link(index=index, up=True))


def delete_link(index: int) -> Message:
    return Message(_DELLINK, 0, _link(index=index))


def add_address(index: int, address: bytes, prefix: int) -> Message:
    """*address* is four bytes."""
    head = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, 0, index)
    attributes = _attribute(_IFA_LOCAL, address) + _attribute(_IFA_ADDRESS, address)
    return Message(_NEWADDR, _CREATE | _EXCL, head + attributes)


def default_route(gateway: bytes) -> Message:
    """Everything goes to *gateway*, four bytes."""
    head = struct.pack(
        "=BBBBBBBBI", socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTO_BOOT, 0, _TYPE_UNICAST, 0
    )
    return Message(_NEWROUTE, _CREATE | _EXCL, head + _attribute(_RTA_GATEWAY, gateway))


def get_table(family: str, name: str) -> Message:
    """For a `NETFILTER` socket: refused with ENOENT if there is no such nftables table."""
    head = struct.pack("=BBH", _NFPROTO[family], 0, 0)
    return Message(_NFT_GETTABLE, 0, head + _text(_NFTA_TABLE_NAME, name))


def _link(*, index: int = 0, up: bool = False) -> bytes:
    flags = _IFF_UP if up else 0
    return struct.pack("=BBHiII", socket.AF_UNSPEC, 0, 0, index, flags, flags)


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _nest(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, value)
