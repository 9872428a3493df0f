"""Which addresses an installation has, and whose they are: decided from its name and from this machine's routes. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv4Network

from hakobune.runtime.network_error import NetworkError

PREFIX = 20
_SPACE = IPv4Network("10.64.0.0/10")
# The supervisor's containers outlive it, so their addresses are its own to give: what lives is in
# its state files. Everybody else's cable dies with its process, and a held flock is the whole truth.
_GUEST_SHARE = 4  # the last quarter of the subnet


def choose_subnet(installation: str, taken: Iterable[IPv4Network]) -> IPv4Network:
    """The installation's subnet: the first from a place that follows from its name that overlaps nothing *taken*.

    Raises:
        NetworkError: all of 10.64.0.0/10 is routed elsewhere.
    """
    taken = tuple(taken)
    count = 1 << (PREFIX - _SPACE.prefixlen)
    start = int.from_bytes(hashlib.sha256(installation.encode()).digest()[:4], "big")
    for step in range(count):
        offset = ((start + step) % count) << (32 - PREFIX)
        subnet = IPv4Network((int(_SPACE.network_address) + offset, PREFIX))
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise NetworkError(
        "no subnet is free for containers",
        why=f"every /{PREFIX} of {_SPACE} overlaps a route of this machine",
    )


def parse_routes(text: str, *, ignoring: str = "") -> tuple[IPv4Network, ...]:
    """The networks of `/proc/net/route` but for the default route and those of the interface *ignoring*."""
    networks = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[0] == ignoring:
            continue
        target, mask = (int.from_bytes(bytes.fromhex(f), "little") for f in (fields[1], fields[7]))
        if mask:
            networks.append(IPv4Network((target & mask, mask.bit_count())))
    return tuple(networks)


def instance_addresses(subnet: IPv4Network) -> range:
    """The addresses that the supervisor gives to its containers, as integers."""
    first = int(subnet.network_address)
    return range(first + 2, first + _guest_offset(subnet))


def guest_addresses(subnet: IPv4Network) -> range:
    """The addresses of builds and foreground containers, as integers."""
    first = int(subnet.network_address)
    return range(first + _guest_offset(subnet), int(subnet.broadcast_address))


def _guest_offset(subnet: IPv4Network) -> int:
    return subnet.num_addresses - subnet.num_addresses // _GUEST_SHARE
