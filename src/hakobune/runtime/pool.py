"""Slots with their cables, made while nobody waits: taking one costs nothing, making one about four milliseconds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from hakobune.errors import HakoError
from hakobune.runtime.cable import Cable, disconnect
from hakobune.runtime.network import Network
from hakobune.runtime.slot import HeldRange, Slot, bases_in_use, make_slot, take_range
from hakobune.runtime.subnet import instance_addresses

POOL_SIZE = 8


@dataclass(slots=True)
class Berth:
    """Where one container lives: its namespaces, its id range and its cable (`None`: loopback only)."""

    slot: Slot
    ids: HeldRange
    cable: Cable | None

    @property
    def address(self) -> str | None:
        return None if self.cable is None else self.cable.address


class NoAddressError(HakoError):
    """Every address of the installation's subnet is in use."""


class AddressBook:
    """Gives addresses out, each as late again as possible: a dead namespace keeps its own for a moment."""

    def __init__(self, addresses: range) -> None:
        self._addresses = addresses
        self._next = 0
        self._used: set[int] = set()

    def take(self) -> IPv4Address:
        """The next free address.

        Raises:
            NoAddressError: there is none.
        """
        for _ in range(len(self._addresses)):
            address = self._addresses[self._next]
            self._next = (self._next + 1) % len(self._addresses)
            if address not in self._used:
                self._used.add(address)
                return IPv4Address(address)
        raise NoAddressError(f"no address is free: {len(self._used)} containers have one")

    def reserve(self, address: str) -> None:
        """It is in use already (an adopted container's)."""
        self._used.add(int(IPv4Address(address)))

    def release(self, address: str) -> None:
        self._used.discard(int(IPv4Address(address)))


class BerthPool:
    """Ready berths of one installation."""

    def __init__(self, installation: str, network: Network, *, size: int = POOL_SIZE) -> None:
        self.addresses = AddressBook(instance_addresses(network.subnet))
        self._installation = installation
        self._network = network
        self._size = size
        self._ready: list[Berth] = []
        # Ranges of containers whose supervisor died are held by nobody until they are adopted.
        self._foreign = bases_in_use()

    @property
    def ready(self) -> int:
        """How many berths are ready."""
        return len(self._ready)

    def take(self, *, network: bool) -> Berth:
        """A berth, from the pool if it has one of that kind."""
        if not network:
            return self._make(network=False)
        return self._ready.pop(0) if self._ready else self._make(network=True)

    def fill(self) -> bool:
        """Make one berth if the pool is not full; says whether more are wanted."""
        if len(self._ready) < self._size:
            self._ready.append(self._make(network=True))
        return len(self._ready) < self._size

    def release(self, berth: Berth) -> None:
        """Give a used berth up for good: what ran in it may have changed its namespaces."""
        if berth.cable is not None:
            with contextlib.suppress(OSError):
                disconnect(berth.cable)
            self.addresses.release(berth.cable.address)
        berth.slot.close()
        berth.ids.release()

    def drain(self) -> None:
        """Give every ready berth up."""
        while self._ready:
            self.release(self._ready.pop())

    def reserve(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            self.addresses.reserve(address)

    def _make(self, *, network: bool) -> Berth:
        ids = take_range(self._installation, avoid=self._foreign)
        try:
            slot = make_slot(ids.ids)
        except BaseException:
            ids.release()
            raise
        if not network:
            return Berth(slot, ids, None)
        address = self.addresses.take()
        try:
            cable = self._network.connect(slot.netns_fd, address)
        except BaseException:
            self.addresses.release(str(address))
            slot.close()
            ids.release()
            raise
        return Berth(slot, ids, cable)
