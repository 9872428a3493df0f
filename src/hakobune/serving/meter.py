"""The requests of instances, as HAProxy counts them: who is busy, who is quiet, who is well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from hakobune.serving.haproxy import HAProxyError
from hakobune.serving.haproxy_commands import SlotLoad
from hakobune.serving.ingress_keeper import IngressKeeper
from hakobune.serving.instance import Instance
from hakobune.serving.revision_record import RevisionRecord


class Meter:
    """Asks the ingress. For one asyncio loop."""

    def __init__(self, ingress: IngressKeeper) -> None:
        self._ingress = ingress
        self._totals: dict[str, int] = {}

    async def observe(
        self, instances: Iterable[Instance], record: Callable[[str], RevisionRecord]
    ) -> None:
        """Note in *instances* and in their revisions' records what runs and waits; nothing if HAProxy does not answer."""
        live = list(instances)
        try:
            loads = await self._ingress.loads({i.revision for i in live})
        except HAProxyError:
            return
        now = time.monotonic()
        for revision, load in loads.items():
            record(revision).waiting_in_ingress = load.waiting
        for instance in live:
            own = loads.get(instance.revision, SlotLoad()).servers.get(instance.id)
            if own is None:
                continue
            instance.running = own.running
            if own.running or own.total != self._totals.get(instance.id):
                instance.idle_since = now
            self._totals[instance.id] = own.total

    def forget(self, id: str) -> None:
        """The instance is gone."""
        self._totals.pop(id, None)

    async def is_quiet(self, instance: Instance) -> bool:
        """Whether no request runs in it; false if HAProxy does not answer."""
        try:
            loads = await self._ingress.loads({instance.revision})
        except HAProxyError:
            return False
        own = loads.get(instance.revision, SlotLoad()).servers.get(instance.id)
        return own is None or not own.running

    async def is_up(self, revision: str) -> bool:
        """Whether HAProxy itself holds an instance of *revision* to be well."""
        try:
            loads = await self._ingress.loads({revision})
        except HAProxyError:
            return False
        return any(own.up for own in loads.get(revision, SlotLoad()).servers.values())

    async def running(self, revision: str) -> int | None:
        """How many requests run in all its instances; `None` if HAProxy does not answer."""
        try:
            loads = await self._ingress.loads({revision})
        except HAProxyError:
            return None
        return sum(own.running for own in loads.get(revision, SlotLoad()).servers.values())
