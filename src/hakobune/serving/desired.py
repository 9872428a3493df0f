"""Desired state as the fleet and the ingress ask for it: revisions, who is reachable, the routing table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hakobune.serving.catalog import Catalog
from hakobune.serving.ingress import RoutingTable
from hakobune.serving.instance import Instance
from hakobune.serving.revision import Revision
from hakobune.serving.routing import routing_table, serving_revisions


class Desired:
    """A view of the catalog; fits `fleet.Wanted`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def revision(self, name: str) -> Revision | None:
        entry = self._catalog.revisions.get(name)
        return entry.revision if entry else None

    def serving(self) -> frozenset[str]:
        """Full names of the revisions that requests can reach."""
        return serving_revisions(self._catalog.services.values())

    async def note(self, subject: str, reason: str, message: str) -> None:
        await self._catalog.note(subject, reason, message)

    def table(self, instances: Iterable[Instance], slots: Mapping[str, int]) -> RoutingTable:
        """What HAProxy shall know with these instances in these slots."""
        return routing_table(
            self._catalog.services.values(), self._catalog.revisions, instances, slots
        )
