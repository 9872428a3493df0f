"""What HAProxy shall know, as a value: the routing table and its maps.

Pure. `haproxy_files.py` turns it into start-up files, `haproxy.py` brings a running HAProxy to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SPLIT = "*"  # in the map of routes: the revision is drawn by number
MAPS = ("hosts", "ports", "routes", "timeouts", "slots", "owners")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An instance as HAProxy sees it. `usable` is false while it is frozen or drained."""

    name: str
    address: str
    port: int
    concurrency: int
    h2: bool = False
    usable: bool = True


@dataclass(frozen=True, slots=True)
class Share:
    """A revision's part of a route, in percent."""

    revision: str
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """Everything that HAProxy knows of services. A service at zero is its host, its port and its route.

    Args:
        hosts: host name (lower case, no port) to route.
        ports: service port to route.
        routes: route to the revisions that share it; percents sum to 100.
        timeouts_ms: revision to its request timeout.
        slots: revision to the number of the backend that it holds.
        servers: slot number to the instances in it.
    """

    hosts: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[int, str] = field(default_factory=dict)
    routes: Mapping[str, tuple[Share, ...]] = field(default_factory=dict)
    timeouts_ms: Mapping[str, int] = field(default_factory=dict)
    slots: Mapping[str, int] = field(default_factory=dict)
    servers: Mapping[int, tuple[Server, ...]] = field(default_factory=dict)

    def maps(self) -> dict[str, dict[str, str]]:
        """The maps by name, as HAProxy's look-ups need them."""
        return {
            "hosts": dict(self.hosts),
            "ports": {str(port): route for port, route in self.ports.items()},
            "routes": _routes(self.routes),
            "timeouts": {revision: str(ms) for revision, ms in self.timeouts_ms.items()},
            "slots": {
                revision: slot_name(slot)
                for revision, slot in self.slots.items()
                if self.is_usable(slot)
            },
            "owners": {slot_name(slot): revision for revision, slot in self.slots.items()},
        }

    def is_usable(self, slot: int) -> bool:
        """Whether requests may be sent to the slot now; else they are held."""
        return any(server.usable for server in self.servers.get(slot, ()))


def slot_name(slot: int) -> str:
    return f"s{slot}"


def _routes(routes: Mapping[str, Sequence[Share]]) -> dict[str, str]:
    """A route of one revision is one line; one that is split is `*` and a line for each draw from 0 to 99."""
    entries: dict[str, str] = {}
    for route, shares in routes.items():
        receiving = [share for share in shares if share.percent]
        if len(receiving) == 1:
            entries[route] = receiving[0].revision
        elif receiving:
            drawn = [share.revision for share in receiving for _ in range(share.percent)]
            entries[route] = SPLIT
            entries |= {f"{route}:{n}": revision for n, revision in enumerate(drawn)}
    return entries
