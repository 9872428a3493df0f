"""Which runtime commands bring an HAProxy from what it knows to a routing table (pure).

An instance is added with weight 0, enabled, and only then weighed and limited: enabled in one step it would
take up to its limit from the queue *on top of* the normal assignment (twice its concurrency).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hakobune.serving.haproxy_files import server_options
from hakobune.serving.ingress import MAPS, RoutingTable, Server, slot_name

# What is looked up last is changed first, so that no look-up finds a name that leads nowhere.
_MAP_ORDER = ("timeouts", "owners", "slots", "routes", "hosts", "ports")
assert set(_MAP_ORDER) == set(MAPS)


@dataclass(frozen=True, slots=True)
class Known:
    """What a running HAProxy knows: its maps, and per slot each server's name and whether it is usable."""

    maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    servers: Mapping[int, Mapping[str, bool]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MapChange:
    """How one map changes: by single commands, or (`swap`) whole, in one instant."""

    name: str
    entries: Mapping[str, str]
    commands: tuple[str, ...]
    swap: bool


def opening_commands(known: Known, table: RoutingTable) -> tuple[str, ...]:
    """Add the instances that are missing and make usable those that shall be. To be sent before the maps."""
    commands: list[str] = []
    for slot, servers in table.servers.items():
        there = known.servers.get(slot, {})
        for server in servers:
            name = f"{slot_name(slot)}/{server.name}"
            if server.name not in there:
                commands += [
                    f"add server {name} {server.address}:{server.port} weight 0 {server_options(server)}"
                ]
                commands += [
                    f"enable health {name}",
                    *(_usable(name, server) if server.usable else ()),
                ]
            elif server.usable and not there[server.name]:
                commands += [f"set weight {name} 0", *_usable(name, server)]
    return tuple(commands)


def closing_commands(known: Known, table: RoutingTable) -> tuple[str, ...]:
    """Give no further requests to what shall not be usable. To be sent after the maps."""
    commands: list[str] = []
    for slot, there in known.servers.items():
        wanted = {server.name: server.usable for server in table.servers.get(slot, ())}
        commands += [
            f"set server {slot_name(slot)}/{name} state maint"
            for name, usable in there.items()
            if usable and not wanted.get(name, False)
        ]
    return tuple(commands)


def superfluous_servers(known: Known, table: RoutingTable) -> tuple[str, ...]:
    """`s0/NAME` of those to delete."""
    return tuple(
        f"{slot_name(slot)}/{name}"
        for slot, there in known.servers.items()
        for name in there
        if name not in {server.name for server in table.servers.get(slot, ())}
    )


def map_changes(
    known: Known, table: RoutingTable, path_of: Callable[[str], Path]
) -> tuple[MapChange, ...]:
    """The maps that differ, in the order in which to change them."""
    wanted = table.maps()
    changes = []
    for name in _MAP_ORDER:
        old, new = known.maps.get(name, {}), wanted[name]
        if old != new:
            changes.append(_map_change(name, old, new, path_of(name)))
    return tuple(changes)


def _map_change(name: str, old: Mapping[str, str], new: Mapping[str, str], path: Path) -> MapChange:
    differing = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
    if len(differing) != 1:  # several lines change in one instant only by a swap
        return MapChange(name, new, (), swap=True)
    (key,) = differing
    if key not in new:
        command = f"del map {path} {key}"
    elif key in old:
        command = f"set map {path} {key} {new[key]}"
    else:
        command = f"add map {path} {key} {new[key]}"
    return MapChange(name, new, (command,), swap=False)


def _usable(name: str, server: Server) -> tuple[str, ...]:
    return (
        f"set server {name} state ready",
        f"set weight {name} 100",
        f"set maxconn server {name} {server.concurrency}",
    )


def parse_servers(text: str) -> dict[int, dict[str, bool]]:
    """The instances in an answer of `show servers state`, without each slot's way back."""
    servers: dict[int, dict[str, bool]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 8 or not words[0].isdecimal():
            continue
        backend, name, admin, weight = words[1], words[3], int(words[6]), int(words[7])
        if backend[0] == "s" and backend[1:].isdecimal() and name != "again":
            # One without weight was being opened when the controller was killed.
            usable = weight > 0 and not admin & (_MAINT | _DRAIN)
            servers.setdefault(int(backend[1:]), {})[name] = usable
    return servers


_MAINT, _DRAIN = 0x01 | 0x02 | 0x20, 0x08 | 0x10


def parse_map(text: str) -> dict[str, str]:
    """The entries in an answer of `show map`: an address, a key and a value a line."""
    entries: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split(maxsplit=2)
        if len(words) == 3 and words[0].startswith("0x"):
            entries[words[1]] = words[2]
    return entries


@dataclass(frozen=True, slots=True)
class Load:
    """What one instance, or (`waiting`) a slot's queue, has to do now."""

    running: int
    total: int
    up: bool


@dataclass(frozen=True, slots=True)
class SlotLoad:
    """A slot's requests: in its queue, and per instance."""

    waiting: int = 0
    servers: Mapping[str, Load] = field(default_factory=dict)


def parse_loads(text: str) -> dict[int, SlotLoad]:
    """The slots in answers of `show stat SLOT 6 -1`."""
    waiting: dict[int, int] = {}
    servers: dict[int, dict[str, Load]] = {}
    for line in text.splitlines():
        cells = line.split(",")
        if len(cells) < 20 or cells[0][:1] != "s" or not cells[0][1:].isdecimal():
            continue
        slot, name = int(cells[0][1:]), cells[1]
        if name == "BACKEND":
            waiting[slot] = int(cells[2] or 0)
        elif name != "again":
            servers.setdefault(slot, {})[name] = Load(
                int(cells[4] or 0), int(cells[7] or 0), cells[17].startswith("UP")
            )
    return {slot: SlotLoad(waiting[slot], servers.get(slot, {})) for slot in waiting}
