from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.runtime.network_error import NetworkError
from hakobune.runtime.subnet import (
    choose_subnet,
    guest_addresses,
    instance_addresses,
    parse_routes,
)

SPACE = IPv4Network("10.64.0.0/10")
ROUTES = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
hakobr	00004F0A	00000000	0001	0	0	0	00F0FFFF	0	0	0
"""


@given(st.text(min_size=1, max_size=10))
def test_a_subnet_follows_from_the_name_and_lies_in_our_space(name: str) -> None:
    subnet = choose_subnet(name, [])

    assert subnet == choose_subnet(name, [])
    assert subnet.subnet_of(SPACE)
    assert subnet.prefixlen == 20


@given(st.text(min_size=1, max_size=10), st.integers(10, 32))
def test_a_subnet_overlaps_nothing_that_is_taken(name: str, prefix: int) -> None:
    first = choose_subnet(name, [])
    taken = IPv4Network((first.network_address + 1, max(prefix, 11)), strict=False)

    assert not choose_subnet(name, [taken]).overlaps(taken)


def test_no_room_is_an_error_in_words() -> None:
    with pytest.raises(NetworkError, match="no subnet is free"):
        choose_subnet("hako", [SPACE])


def test_routes_are_read_but_for_the_default_and_our_own() -> None:
    assert parse_routes(ROUTES, ignoring="hakobr") == (IPv4Network("192.0.2.0/24"),)
    assert IPv4Network("10.79.0.0/20") in parse_routes(ROUTES)


def test_instances_and_guests_share_the_subnet_without_meeting() -> None:
    subnet = IPv4Network("10.79.0.0/20")
    instances, guests = instance_addresses(subnet), guest_addresses(subnet)

    network, broadcast = int(subnet.network_address), int(subnet.broadcast_address)
    assert instances.start == network + 2  # the network's and the gateway's are nobody's
    assert instances.stop == guests.start
    assert guests.stop == broadcast
    assert len(instances) > len(guests) > 1000
