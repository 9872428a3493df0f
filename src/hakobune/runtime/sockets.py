"""Who listens where in a container's network namespace: for "it listens on 127.0.0.1:5000 only"."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hakobune.runtime.container import ListeningSocket

_LISTEN = "0A"


def parse_listening(text: str) -> Iterator[tuple[str, int, int]]:
    """Address, port and inode of each listening socket in a `/proc/PID/net/tcp` or `tcp6` (proc(5))."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            address, _, port = fields[1].partition(":")
            yield _address(address), int(port, 16), int(fields[9])


def _address(text: str) -> str:
    """The address from the kernel's host-order words."""
    raw = b"".join(int(text[i : i + 8], 16).to_bytes(4, "little") for i in range(0, len(text), 8))
    return str(ipaddress.ip_address(raw))


def listening_sockets(pid: int, pids: Iterable[int]) -> tuple[ListeningSocket, ...]:
    """The TCP sockets that the network namespace of *pid* listens on, held by one of *pids* where that is known."""
    owners = _owners(pids)
    found = []
    for name in ("tcp", "tcp6"):
        try:
            text = Path(f"/proc/{pid}/net/{name}").read_text()
        except OSError:
            continue
        for address, port, inode in parse_listening(text):
            owner = owners.get(inode)
            command = _command(owner) if owner is not None else ""
            found.append(ListeningSocket(address=address, port=port, pid=owner, command=command))
    return tuple(sorted(found, key=lambda item: (item.port, item.address)))


def _owners(pids: Iterable[int]) -> dict[int, int]:
    owners: dict[int, int] = {}
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            for name in os.listdir(folder):
                target = os.readlink(f"{folder}/{name}")
                if target.startswith("socket:["):
                    owners.setdefault(int(target[8:-1]), pid)
        except OSError:
            continue  # it has ended
    return owners


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(word for word in words if word).decode(errors="replace")
