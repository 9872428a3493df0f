"""The upstreams that one worker has asked: their connections and tokens, and which of them fail at the moment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hakobune.registry.freshness import Trouble, not_before
from hakobune.registry.repository import Repository
from hakobune.registry.upstream import RegistryUpstream
from hakobune.registry.upstream_errors import UpstreamError

if TYPE_CHECKING:
    from hakobune.registry.upstream_client import RateLimit, UpstreamClient

_CLIENTS: Final = 256

OpenPassword = Callable[[Repository], str]
"""The password of a remote repository's upstream, in clear."""


@dataclass(frozen=True, slots=True)
class _Down:
    until: float
    error: UpstreamError


class Upstreams:
    """Clients by repository, the least recently used closed first. `close` closes all."""

    def __init__(self, open_password: OpenPassword, env: Mapping[str, str], home: Path) -> None:
        self._open_password = open_password
        self._env = env
        self._home = home
        self._clients: OrderedDict[int, tuple[str, UpstreamClient]] = OrderedDict()
        self._down: dict[int, _Down] = {}

    def client(self, repository: Repository, upstream: RegistryUpstream) -> UpstreamClient:
        """The client of a remote repository; another one after its configuration has changed."""
        known = self._clients.get(repository.id)
        if known is not None and known[0] == repository.etag:
            self._clients.move_to_end(repository.id)
            return known[1]
        from hakobune.registry.upstream_client import UpstreamClient  # few workers need HTTP

        self.forget(repository.id)
        remote = repository.remote
        client = UpstreamClient(
            upstream,
            user=remote.username if remote is not None else "",
            password=lambda: self._open_password(repository),
            env=self._env,
            home=self._home,
        )
        self._clients[repository.id] = (repository.etag, client)
        if len(self._clients) > _CLIENTS:
            self.forget(next(iter(self._clients)))
        return client

    def forget(self, repository_id: int) -> None:
        """Close a client, and ask again what failed."""
        self._down.pop(repository_id, None)
        known = self._clients.pop(repository_id, None)
        if known is not None:
            known[1].close()

    def failure(self, repository: Repository, *, now: float) -> UpstreamError | None:
        """How the upstream failed just now, as long as that makes another question useless."""
        down = self._down.get(repository.id)
        if down is None:
            return None
        if now >= down.until:
            del self._down[repository.id]
            return None
        return down.error

    def limit(self, repository: Repository, *, now: float) -> UpstreamError | None:
        """The same if the upstream has said until when it answers nothing (429)."""
        down = self._down.get(repository.id)
        if down is None or down.error.trouble is not Trouble.LIMITED or now >= down.until:
            return None
        error = down.error
        return UpstreamError(
            error.trouble,
            error.host,
            error.why,
            status=error.status,
            retry_after_s=down.until - now,
        )

    def note_failure(self, repository: Repository, error: UpstreamError, *, now: float) -> None:
        """Remember how it failed, if that says something about the next question."""
        until = not_before(error.failed, now=now)
        if until > now:
            self._down[repository.id] = _Down(until, error)

    def note_success(self, repository: Repository) -> None:
        """It answers."""
        self._down.pop(repository.id, None)

    def rate_limits(self) -> Mapping[str, RateLimit]:
        """What upstreams last said about how much may be pulled, by host."""
        found: dict[str, RateLimit] = {}
        for _, client in self._clients.values():
            limit = client.rate_limit
            known = found.get(client.upstream.host)
            if limit is not None and (known is None or known.seen_at < limit.seen_at):
                found[client.upstream.host] = limit
        return found

    def close(self) -> None:
        """Close all connections."""
        for repository_id in list(self._clients):
            self.forget(repository_id)
