"""`-p` means what docker's means, but for the address that nobody named."""

from __future__ import annotations

import pytest

from hakobune.cli.published_port import parse_exposed, parse_published
from hakobune.errors import UsageError
from hakobune.runtime.container import PublishedPort


@pytest.mark.parametrize(
    ("text", "address", "host", "container", "protocol"),
    [
        ("80", "", 0, 80, "tcp"),
        ("8080:80", "", 8080, 80, "tcp"),
        ("53:53/udp", "", 53, 53, "udp"),
        ("0.0.0.0:8080:80", "0.0.0.0", 8080, 80, "tcp"),
        ("127.0.0.1::80", "127.0.0.1", 0, 80, "tcp"),
        ("[::1]:8080:80/tcp", "::1", 8080, 80, "tcp"),
        ("[::]::80", "::", 0, 80, "tcp"),
    ],
)
def test_one_port(text: str, address: str, host: int, container: int, protocol: str) -> None:
    assert parse_published(text) == (
        PublishedPort(
            container_port=container, host_port=host, host_address=address, protocol=protocol
        ),
    )


def test_ranges_of_equal_length_lead_port_by_port() -> None:
    ports = parse_published("8000-8002:9000-9002")

    assert [(p.host_port, p.container_port) for p in ports] == [
        (8000, 9000),
        (8001, 9001),
        (8002, 9002),
    ]


def test_what_an_image_exposes_gets_any_port() -> None:
    assert parse_exposed("53/udp") == PublishedPort(container_port=53, protocol="udp")
    assert parse_exposed("80") == PublishedPort(container_port=80)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "x",
        "0",
        "65536",
        "80:",
        "8080:80:",
        "a.b.c.d:80:80",
        "::1:80:80",
        "[::1:80:80",
        "[::1]80:80",
        "8000-8001:80",
        "9-1:9-1",
        "1-5000:1-5000",
        "80/sctp",
        "\u0661:\u0661",
        "localhost:80:80",
    ],
)
def test_anything_else_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_published(text)

    assert repr(text) in caught.value.what


def test_a_port_is_shown_as_docker_shows_it() -> None:
    shown = [str(parse_published(text)[0]) for text in ("8080:80", "[::]:1:2/udp", "80")]

    assert shown == ["127.0.0.1:8080->80/tcp", "[::]:1->2/udp", "127.0.0.1:*->80/tcp"]
