"""Ports of EXPOSE: numbers, ranges, protocols."""

from __future__ import annotations

from collections.abc import Iterable

from hakobune.dockerfile.errors import TextError

_PROTOCOLS = ("tcp", "udp", "sctp")
_FIX = "write PORT, PORT/udp or FIRST-LAST"


def read_ports(words: Iterable[str]) -> tuple[str, ...]:
    """`8000-8002/tcp 53/UDP` → `8000/tcp`, `8001/tcp`, `8002/tcp`, `53/udp`.

    A host address and host port before it, as in `docker run -p`, are accepted and mean nothing.

    Raises:
        TextError: no such port or protocol.
    """
    ports: list[str] = []
    for word in words:
        first, last, protocol = _read_port(word)
        ports += (f"{number}/{protocol}" for number in range(first, last + 1))
    return tuple(ports)


def split_host(word: str) -> tuple[str, str]:
    """`[address:][host port:]` and the rest."""
    *host, port = word.split(":")
    return ":".join(host), port


def _read_port(word: str) -> tuple[int, int, str]:
    if "," in word:
        raise TextError(
            f"{word!r} is not a port number",
            near=word,
            fix=f"write {' '.join(word.replace(',', ' ').split())}, without commas",
        )
    host, port = split_host(word)
    numbers, _, protocol = port.partition("/")
    protocol = protocol.lower() or "tcp"
    if not numbers:
        raise TextError(f"{word!r} names no port", near=word, fix=_FIX)
    if protocol not in _PROTOCOLS:
        raise TextError(
            f"unknown protocol {protocol!r} in {word!r}",
            near=word,
            fix="protocols are " + ", ".join(_PROTOCOLS),
        )
    first, last = _read_range(numbers, word)
    if host:
        _check_host(host, last - first, word)
    return first, last, protocol


def _read_range(text: str, word: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    first = _read_number(start, word)
    last = _read_number(end, word) if dash else first
    if last < first:
        raise TextError(f"the range {text} runs backwards", near=word, fix=f"write {end}-{start}")
    return first, last


def _read_number(text: str, word: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise TextError(f"{text!r} is not a port number", near=word, fix=_FIX)
    if len(text) > 20 or int(text) > 65535:
        raise TextError(f"port {text} is out of range", near=word, fix="ports go from 0 to 65535")
    return int(text)


def _check_host(host: str, length: int, word: str) -> None:
    address, _, port = host.rpartition(":")
    if address:
        import ipaddress  # nearly no Dockerfile has an address, and each start would pay for it

        try:
            ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise TextError(f"{address!r} is not an address", near=word, fix=_FIX) from None
    if port:
        first, last = _read_range(port, word)
        if length not in (0, last - first):
            raise TextError(f"the ranges in {word!r} differ in length", near=word, fix=_FIX)
