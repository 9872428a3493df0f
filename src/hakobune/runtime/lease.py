"""Addresses of builds and foreground containers, each held by a flock of the process that has it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hakobune.runtime.network_error import NetworkError
from hakobune.runtime.subnet import guest_addresses
from hakobune.support.locks import try_exclusive


@dataclass(slots=True)
class Lease:
    """A guest's address, held by a flock until it is released or the process ends."""

    address: IPv4Address
    _descriptor: int

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def take_lease(folder: Path, subnet: IPv4Network) -> Lease:
    """An address of the guests' part of *subnet*; *folder* has a file for each that was ever given.

    Raises:
        NetworkError: all are taken.
    """
    choices = guest_addresses(subnet)
    start = int.from_bytes(os.urandom(4), "big") % len(choices)
    for step in range(len(choices)):
        address = IPv4Address(choices[(start + step) % len(choices)])
        descriptor = try_exclusive(folder / str(address))
        if descriptor is not None:
            return Lease(address, descriptor)
    raise NetworkError("no address is free for another build or foreground container")
