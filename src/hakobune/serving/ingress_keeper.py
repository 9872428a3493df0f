"""Keeps HAProxy true: gives slots to revisions, builds the routing table from what is there, applies it until it holds."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from hakobune.serving.haproxy import HAProxy, HAProxyError
from hakobune.serving.haproxy_commands import SlotLoad
from hakobune.serving.ingress import RoutingTable
from hakobune.serving.instance import Instance, InstanceState

RETRY_S = 0.05
WRITE_DELAY_S = 0.05
_HOLDS_SLOT = frozenset(InstanceState) - {InstanceState.STARTING, InstanceState.STOPPING}

logger = logging.getLogger(__name__)

MakeTable = Callable[[Iterable[Instance], Mapping[str, int]], RoutingTable]


class IngressKeeper:
    """The only one that speaks to HAProxy. For one asyncio loop."""

    def __init__(self, haproxy: HAProxy, make_table: MakeTable) -> None:
        self._haproxy = haproxy
        self._make_table = make_table
        self._slots: dict[str, int] = {}
        self._free: deque[int] = deque(range(haproxy.start.slots))
        self._table = RoutingTable()
        self._writer: asyncio.Task[None] | None = None

    async def adopt(self) -> frozenset[str]:
        """Take over what a running HAProxy knows; returns its instances. Slots stay with their revisions."""
        known = await self._haproxy.read()
        for name, revision in known.maps.get("owners", {}).items():
            slot = int(name[1:])
            if slot in self._free:
                self._free.remove(slot)
                self._slots[revision] = slot
        return frozenset(name for there in known.servers.values() for name in there)

    async def apply(self, instances: Iterable[Instance]) -> frozenset[str]:
        """Bring HAProxy to the present; returns the revisions that can serve. Waits for one that restarts."""
        while True:
            self._assign_slots(instances)
            table = self._make_table(instances, self._slots)
            try:
                await self._haproxy.apply(table)
                self._table = table
            except HAProxyError as error:
                logger.warning("ingress not changed", extra={"what": error.what, "why": error.why})
                await self._haproxy.write_files(table)
                await asyncio.sleep(RETRY_S)
                continue
            self._write_soon()
            return frozenset(r for r, slot in table.slots.items() if table.is_usable(slot))

    def can_serve(self, revision: str) -> bool:
        """Whether the table applied last has an instance that takes requests for *revision*."""
        slot = self._table.slots.get(revision)
        return slot is not None and self._table.is_usable(slot)

    async def restarted(self) -> None:
        """Another HAProxy process runs now."""
        await self._haproxy.forget()

    async def loads(self, revisions: Iterable[str]) -> dict[str, SlotLoad]:
        """What runs and waits for each revision that holds a slot."""
        slots = {self._slots[r]: r for r in revisions if r in self._slots}
        loads = await self._haproxy.loads(slots)
        return {slots[slot]: load for slot, load in loads.items() if slot in slots}

    async def flush(self, table: RoutingTable) -> None:
        """Write the start-up files for *table* now: HAProxy does not run yet."""
        await self._haproxy.write_files(table)

    async def written(self) -> None:
        """Return when the start-up files are as HAProxy is now."""
        if self._writer is not None:
            await asyncio.wait({self._writer})

    def _assign_slots(self, instances: Iterable[Instance]) -> None:
        """A slot for each revision that has instances in HAProxy; one that is let go is given out last."""
        needed = {i.revision for i in instances if i.state in _HOLDS_SLOT}
        unused = [r for r in self._slots if r not in needed]
        if unused:
            occupied = self._haproxy.occupied_slots()
            for revision in unused:
                if self._slots[revision] not in occupied:
                    self._free.append(self._slots.pop(revision))
        for revision in sorted(needed - self._slots.keys()):
            if not self._free:
                logger.error("no slot left in the ingress", extra={"revision": revision})
                continue
            self._slots[revision] = self._free.popleft()

    def _write_soon(self) -> None:
        """Keep the start-up files true, without holding up a request that wakes."""
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_later())

    async def _write_later(self) -> None:
        await asyncio.sleep(WRITE_DELAY_S)
        table = None
        while table != self._table:  # it changes while it is written
            table = self._table
            try:
                await self._haproxy.write_files(table)
            except OSError as error:
                logger.error("ingress files not written", extra={"why": str(error)})
