"""Cables: veth pairs from an installation's bridge into network namespaces (veth(4))."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from hakobune.runtime import linux, netlink
from hakobune.runtime.netlink import Netlink
from hakobune.runtime.network_error import NetworkError
from hakobune.runtime.subnet import PREFIX

_INTERFACE = "eth0"
_SUFFIX_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True)
class Cable:
    """The host's end of a veth pair whose other end is `eth0` of some namespace."""

    name: str
    index: int
    address: str


def connect(
    bridge: str, netns_fd: int, address: IPv4Address, *, gateway: IPv4Address, prefix: str
) -> Cable:
    """Give the namespace an `eth0` with *address* on the *bridge*, and its default route.

    Args:
        prefix: what the name of the host's end begins with.
    """
    index_of_bridge = socket.if_nametoindex(bridge)
    with Netlink() as host:
        name = _new_port(host, prefix, index_of_bridge, netns_fd, _mac_of(address))
        index = socket.if_nametoindex(name)
        try:
            host.send([netlink.isolate_port(index)])
            with inside(netns_fd):
                inner = socket.if_nametoindex(_INTERFACE)
                with Netlink() as guest:
                    guest.send(
                        [
                            netlink.link_up(inner),
                            netlink.add_address(inner, address.packed, PREFIX),
                            netlink.default_route(gateway.packed),
                        ]
                    )
        except OSError:
            host.send([netlink.delete_link(index)])
            raise
    _await_forwarding(name)
    return Cable(name, index, str(address))


def _new_port(host: Netlink, prefix: str, bridge: int, netns_fd: int, mac: bytes) -> str:
    # Names are never reused: the pair of a namespace that died a moment ago may still be there.
    for _ in range(100):
        suffix = "".join(_SUFFIX_LETTERS[byte & 31] for byte in os.urandom(5))
        name = prefix + suffix
        try:
            host.send(
                [
                    netlink.new_veth(
                        name,
                        bridge=bridge,
                        peer=_INTERFACE,
                        peer_mac=mac,
                        peer_netns_fd=netns_fd,
                    )
                ]
            )
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
        else:
            return name
    raise NetworkError("no name is free for another network interface")


def disconnect(cable: Cable) -> None:
    """Take a cable away now, instead of some time after its namespace. One that is gone is fine."""
    try:
        if socket.if_nametoindex(cable.name) != cable.index:
            return
    except OSError:  # it has no errno: there is no such interface
        return
    with Netlink() as host:
        try:
            host.send([netlink.delete_link(cable.index)])
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise


@contextmanager
def inside(netns_fd: int) -> Iterator[None]:
    """The calling thread works in another network namespace while the block lasts."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(netns_fd, linux.CLONE_NEWNET)
        try:
            yield
        finally:
            linux.setns(home, linux.CLONE_NEWNET)
    finally:
        os.close(home)


def _await_forwarding(port: str) -> None:
    """Return when a bridge port carries packets, which the kernel sees to a moment after its pair came up.

    The first packet would be lost otherwise, and both ARP and TCP ask again only after a second.
    """
    # A new port counts as forwarding until its missing carrier is noticed: both have to be read, in this order.
    signs = (
        (f"/sys/class/net/{port}/operstate", "up"),
        (f"/sys/class/net/{port}/brport/state", "3"),
    )
    deadline = time.monotonic() + 1.0
    for path, value in signs:
        while (_read(path) or "").strip() != value and time.monotonic() < deadline:
            time.sleep(0.0002)


def _mac_of(address: IPv4Address) -> bytes:
    """The same for every holder of an address, so that a neighbour entry for the last one is right for the next."""
    return b"\x02\x48" + address.packed


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None
