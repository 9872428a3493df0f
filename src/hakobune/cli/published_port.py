"""`-p` as docker spells it: `[ADDRESS:][HOST:]CONTAINER[/PROTOCOL]`, with ranges of equal length."""

from __future__ import annotations

import ipaddress

from hakobune.errors import UsageError
from hakobune.runtime.container import PublishedPort

_MOST = 1000


def parse_published(text: str) -> tuple[PublishedPort, ...]:
    """`8080:80`, `0.0.0.0:53:53/udp`, `[::1]:8080:80`, `127.0.0.1::80`, `80` (any free port), `8000-8009:8000-8009`.

    Raises:
        UsageError: it is none of these.
    """
    rest, _, protocol = text.partition("/")
    protocol = protocol or "tcp"
    address, host, container = _split(rest, text)
    if protocol not in ("tcp", "udp"):
        raise _error(text, f"the protocol {protocol!r} is neither tcp nor udp")
    inside = _range(container, text)
    outside = _range(host, text) if host else [0] * len(inside)
    if len(inside) != len(outside):
        raise _error(text, f"{len(outside)} ports of the host cannot lead to {len(inside)}")
    return tuple(
        PublishedPort(container_port=c, host_port=h, host_address=address, protocol=protocol)
        for h, c in zip(outside, inside, strict=True)
    )


def parse_exposed(text: str) -> PublishedPort:
    """An entry of an image's `ExposedPorts` (`80/tcp`), on any free port of the host."""
    port, _, protocol = text.partition("/")
    return PublishedPort(container_port=_number(port, text), protocol=protocol or "tcp")


def _split(rest: str, text: str) -> tuple[str, str, str]:
    """Address, host's and container's ports."""
    head, _, container = rest.rpartition(":")
    if not head:
        return "", "", container
    if head.startswith("["):
        address, bracket, host = head[1:].partition("]")
        if not bracket or host[:1] not in ("", ":"):
            raise _error(text, "an IPv6 address stands in brackets")
        return _address(address, text), host[1:], container
    address, _, host = head.rpartition(":")
    if ":" in address:
        raise _error(text, "an IPv6 address stands in brackets")
    return (_address(address, text) if address else ""), host, container


def _address(address: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        raise _error(text, f"{address!r} is no IP address of this machine") from None


def _range(ports: str, text: str) -> list[int]:
    first, dash, last = ports.partition("-")
    start = _number(first, text)
    end = _number(last, text) if dash else start
    if not start <= end < start + _MOST:
        raise _error(text, f"{ports} is no range of at most {_MOST} ports")
    return list(range(start, end + 1))


def _number(port: str, text: str) -> int:
    if not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise _error(text, f"{port!r} is no port (1 to 65535)")
    return int(port)


def _error(text: str, why: str) -> UsageError:
    return UsageError(
        f"-p {text!r} publishes nothing", why=why, fix="-p HOST:CONTAINER, say -p 8080:80"
    )
