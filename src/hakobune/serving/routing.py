"""From services, revisions and instances to HAProxy's routing table, and to the addresses that users see (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hakobune.serving.catalog import RevisionEntry, ServiceEntry
from hakobune.serving.document import parse_duration
from hakobune.serving.ingress import RoutingTable, Server, Share
from hakobune.serving.instance import Instance, InstanceState
from hakobune.serving.revision import Revision
from hakobune.serving.service import Service, ServiceName, TrafficTargetStatus, TrafficType

DOMAIN = "localhost"
_IN_INGRESS = frozenset(
    {
        InstanceState.READY,
        InstanceState.PARKED,
        InstanceState.FREEZING,
        InstanceState.FROZEN,
        InstanceState.THAWING,
    }
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where services are found: the host and port of the ingress."""

    host: str
    port: int

    def urls(self, label: str, port: int | None) -> tuple[str, ...]:
        """The service's URLs; the last is one that every program resolves."""
        named = f"http://{label}.{DOMAIN}:{self.port}"
        return (named, f"http://{self.host}:{port}") if port else (named,)

    def tag_uri(self, label: str, tag: str) -> str:
        return f"http://{tag}---{label}.{DOMAIN}:{self.port}"


def traffic_statuses(
    service: Service, latest_ready: str, label: str, addresses: Addresses
) -> tuple[TrafficTargetStatus, ...]:
    """What *service*'s traffic means with that latest ready revision (short name; "" if there is none)."""
    statuses = []
    for target in service.traffic:
        revision = latest_ready if target.type is TrafficType.LATEST else target.revision
        if revision:
            statuses.append(
                TrafficTargetStatus(
                    type=target.type,
                    revision=revision,
                    percent=target.percent,
                    tag=target.tag,
                    uri=addresses.tag_uri(label, target.tag) if target.tag else "",
                )
            )
    return tuple(statuses)


def serving_revisions(services: Iterable[ServiceEntry]) -> frozenset[str]:
    """Full names of the revisions that requests can reach now, by traffic or by tag."""
    return frozenset(
        ServiceName.parse(entry.name).revision(status.revision)
        for entry in services
        for status in entry.service.traffic_statuses
        if status.percent or status.tag
    )


def routing_table(
    services: Iterable[ServiceEntry],
    revisions: Mapping[str, RevisionEntry],
    instances: Iterable[Instance],
    slots: Mapping[str, int],
) -> RoutingTable:
    """Everything HAProxy shall know."""
    hosts: dict[str, str] = {}
    ports: dict[int, str] = {}
    routes: dict[str, tuple[Share, ...]] = {}
    for entry in services:
        _add_service(entry, hosts, ports, routes)
    reachable = {share.revision for shares in routes.values() for share in shares}
    return RoutingTable(
        hosts=hosts,
        ports=ports,
        routes=routes,
        timeouts_ms={
            name: _timeout_ms(revisions[name].revision)
            for name in reachable | slots.keys()
            if name in revisions
        },
        slots=dict(slots),
        servers=_servers(revisions, instances, slots),
    )


def _add_service(
    entry: ServiceEntry,
    hosts: dict[str, str],
    ports: dict[int, str],
    routes: dict[str, tuple[Share, ...]],
) -> None:
    name = ServiceName.parse(entry.name)
    hosts[f"{entry.label}.{DOMAIN}"] = entry.label
    if entry.port:
        ports[entry.port] = entry.label
    shares: dict[str, int] = {}
    for status in entry.service.traffic_statuses:
        full = name.revision(status.revision)
        shares[full] = shares.get(full, 0) + status.percent
        if status.tag:
            route = f"{status.tag}---{entry.label}"
            hosts[f"{route}.{DOMAIN}"] = route
            routes[route] = (Share(full, 100),)
    routes[entry.label] = tuple(Share(full, percent) for full, percent in shares.items() if percent)


def _servers(
    revisions: Mapping[str, RevisionEntry],
    instances: Iterable[Instance],
    slots: Mapping[str, int],
) -> dict[int, tuple[Server, ...]]:
    servers: dict[int, list[Server]] = {}
    for instance in instances:
        if instance.state not in _IN_INGRESS or instance.revision not in revisions:
            continue
        if instance.revision in slots and instance.address:
            server = _server(instance, revisions[instance.revision].revision)
            servers.setdefault(slots[instance.revision], []).append(server)
    return {slot: tuple(own) for slot, own in servers.items()}


def _server(instance: Instance, revision: Revision) -> Server:
    port = revision.containers[0].ports[0]
    return Server(
        name=instance.id,
        address=instance.address,
        port=port.container_port,
        concurrency=revision.max_instance_request_concurrency,
        h2=port.name == "h2c",
        usable=instance.state is InstanceState.READY,
    )


def _timeout_ms(revision: Revision) -> int:
    return int(parse_duration(revision.timeout, field="timeout") * 1000)
