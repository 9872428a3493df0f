"""Published ports: opened before anything else, on loopback unless somebody says more."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.runtime.container import ContainerError, ContainerSpec, PublishedPort
from hakobune.runtime.published import open_ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        yield port


def _bound(port: PublishedPort) -> list[str]:
    opened = open_ports([port])
    try:
        return sorted(s.getsockname()[0] for s, _ in opened.sockets)
    finally:
        opened.close()


def test_without_an_address_a_port_is_open_on_both_loopbacks() -> None:
    has_ipv6 = Path("/proc/net/if_inet6").exists()
    expected = ["127.0.0.1", "::1"] if has_ipv6 else ["127.0.0.1"]

    assert _bound(PublishedPort(container_port=80)) == expected


def test_an_address_is_the_only_one() -> None:
    assert _bound(PublishedPort(container_port=80, host_address="0.0.0.0")) == ["0.0.0.0"]


def test_any_free_port_is_told() -> None:
    opened = open_ports([PublishedPort(container_port=80), PublishedPort(container_port=81)])
    try:
        numbers = [port.host_port for port in opened.ports]
        assert all(numbers)
        assert len(set(numbers)) == 2
    finally:
        opened.close()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_both_protocols_are_opened(protocol: str) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    opened = open_ports([PublishedPort(container_port=53, protocol=protocol)])
    try:
        assert {s.type for s, _ in opened.sockets} == {kind}
    finally:
        opened.close()


def test_one_that_is_taken_is_refused_with_its_owner_and_the_others_are_closed(taken: int) -> None:
    free = PublishedPort(container_port=1)

    with pytest.raises(ContainerError) as error:
        open_ports([free, PublishedPort(container_port=80, host_port=taken)])

    assert error.value.kind == "port"
    assert f"(pid {os.getpid()}) has port {taken} of 127.0.0.1" in error.value.why
    assert error.value.fix == f"end it, or choose another: -p {taken + 1}:80"


def test_an_address_of_another_machine_is_refused() -> None:
    port = PublishedPort(container_port=80, host_address="192.0.2.7")

    with pytest.raises(ContainerError, match="cannot publish") as error:
        open_ports([port])

    assert error.value.why == "this machine has no address 192.0.2.7"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"network": False}, "an address of its own"),
        ({"host_network": True}, "an address of its own"),
        ({"ports": (PublishedPort(container_port=0),)}, "not 1 to 65535"),
        ({"ports": (PublishedPort(container_port=1, protocol="sctp"),)}, "neither tcp nor udp"),
    ],
)
def test_ports_that_lead_nowhere_are_refused(changes: dict[str, object], why: str) -> None:
    fields: dict[str, object] = {
        "id": "web",
        "lowers": ("/l",),
        "argv": ("/srv",),
        "ports": (PublishedPort(container_port=80),),
    }

    with pytest.raises(ContainerError) as error:
        ContainerSpec(**{**fields, **changes}).check()  # type: ignore[arg-type] # fields by name

    assert why in error.value.why


def test_a_specification_goes_through_json_with_its_ports() -> None:
    spec = ContainerSpec(
        id="web",
        lowers=("/l",),
        argv=("/srv",),
        ports=(PublishedPort(container_port=80, host_port=8080, host_address="0.0.0.0"),),
    )

    assert ContainerSpec.from_json(spec.to_json()) == spec
