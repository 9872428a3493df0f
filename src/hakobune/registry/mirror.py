"""Names for which this registry is a mirror: a host name or a namespace that stands for one of its repositories (pure).

Docker's `registry-mirrors` have no path, so a whole host name is the repository (zot#2985); containerd says in `?ns=` which
registry it means. `HAKO_REGISTRY_MIRRORS` is the table: `mirror.test=demo/hub ghcr.io=demo/ghcr`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hakobune.registry.route import Kind, Route

NAMED = frozenset({Kind.MANIFEST, Kind.BLOB, Kind.TAGS, Kind.REFERRERS, Kind.UPLOADS, Kind.UPLOAD})


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The table: a host name (with or without port) or a namespace → `(project, repository)`."""

    entries: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[tuple[str, str, str]]) -> Mirrors:
        """The table of a setting: name, project, repository."""
        return cls({name: (project, repository) for name, project, repository in entries})

    def by_host(self, host: str) -> tuple[str, str] | None:
        """The repository that a `Host` header names."""
        host = host.lower()
        return self.entries.get(host) or self.entries.get(_without_port(host))

    def by_namespace(self, namespace: str) -> tuple[str, str] | None:
        """The repository that `?ns=` names."""
        return self.entries.get(namespace.lower())

    def route(self, route: Route, host: str) -> Route:
        """What a path means at the host that the client has named."""
        target = self.by_host(host)
        return route if target is None else under(route, target)

    def expand(self, name: str, *, host: str) -> str:
        """The name within this registry that an image's name means at that host."""
        target = self.by_host(host)
        return name if target is None else _below(target, name)


NO_MIRRORS = Mirrors()


def under(route: Route, target: tuple[str, str]) -> Route:
    """The same thing within a repository, unless it is there already."""
    if route.kind not in NAMED:
        return route
    return Route(route.kind, _below(target, route.name), route.reference)


def _below(target: tuple[str, str], name: str) -> str:
    prefix = f"{target[0]}/{target[1]}/"
    return name if name.startswith(prefix) else prefix + name


def _without_port(host: str) -> str:
    return host.partition(":")[0]
