"""Whom remote repositories ask, how often, and what is remembered of those who do not answer."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Coroutine
from typing import TypeVar

from hakobune.registry.asking import Asked, AskedByHttp, AskedHere, Reader, Trail
from hakobune.registry.errors import RegistryError
from hakobune.registry.fetch import Fetches
from hakobune.registry.freshness import Policy
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Repository
from hakobune.registry.rows import SECOND
from hakobune.registry.upstream import (
    OwnUpstream,
    Upstream,
    UpstreamConfigError,
    as_own,
    parse_upstream,
)
from hakobune.registry.upstream_errors import AbsentError, UpstreamError
from hakobune.registry.upstream_gate import UpstreamGate
from hakobune.registry.upstreams import Upstreams

_T = TypeVar("_T")


class RemoteAsking:
    """The questions of one worker to all upstreams.

    Args:
        reader: answers for repositories of this installation.
        own_hosts: `HOST[:PORT]` of this installation: these are not asked by HTTP.
        gate: which repository here may stand before which other one.
    """

    def __init__(
        self,
        metadata: Metadata,
        fetches: Fetches,
        upstreams: Upstreams,
        *,
        reader: Reader,
        own_hosts: tuple[str, ...],
        gate: UpstreamGate,
    ) -> None:
        self._metadata = metadata
        self._fetches = fetches
        self._upstreams = upstreams
        self._reader = reader
        self._own_hosts = own_hosts
        self._gate = gate

    @property
    def now(self) -> float:
        """Seconds of the epoch."""
        return self._metadata.clock() / SECOND

    async def asked(self, repository: Repository, trail: Trail, *, cached: bool) -> Asked:
        """The upstream of a remote repository.

        Raises:
            RegistryError: it cannot be asked: its configuration is wrong, or goes in circles.
        """
        upstream = self._parse(repository)
        if isinstance(upstream, OwnUpstream):
            own = await self._metadata.find_repository(upstream.project, upstream.repository_id)
            if own is not None:
                trail |= {repository.id}
                if own.id in trail:
                    raise RegistryError(
                        "UNAVAILABLE", f"the upstreams of {repository.path} go in circles"
                    )
                await self._gate.check(repository, own)
                return AskedHere(self._reader, own, upstream.image, trail)
            if upstream.otherwise is None:
                raise RegistryError(
                    "UNAVAILABLE",
                    f"the upstream of {repository.path} is the repository {upstream}, which is not there",
                )
            upstream = upstream.otherwise
        return AskedByHttp(
            self._upstreams.client(repository, upstream),
            functools.partial(self._fetches.ask, repository.id),
            cached=cached,
        )

    def _parse(self, repository: Repository) -> Upstream:
        try:
            remote = repository.remote
            return as_own(parse_upstream(remote.upstream if remote else ""), self._own_hosts)
        except UpstreamConfigError as error:
            raise RegistryError("UNAVAILABLE", f"{repository.path}: {error.why}") from error

    def failure(self, repository: Repository) -> UpstreamError | None:
        """How its upstream failed just now."""
        return self._upstreams.failure(repository, now=self.now)

    async def answer(
        self, repository: Repository, question: Awaitable[_T], *, counts: bool = True
    ) -> _T:
        """Await what an upstream answers, and remember whether it does.

        Args:
            counts: it may be a pull in the sense of the upstream's limit; blobs are none.

        Raises:
            AbsentError, UpstreamError: it does not have it; no answer, or it is not to be asked now.
        """
        limit = self._upstreams.limit(repository, now=self.now)
        if limit is not None and counts:
            if isinstance(question, Coroutine):
                question.close()
            raise limit
        try:
            answer = await question
        except AbsentError:
            self._upstreams.note_success(repository)
            raise
        except UpstreamError as error:
            self._upstreams.note_failure(repository, error, now=self.now)
            raise
        self._upstreams.note_success(repository)
        return answer

    async def policy(self, repository: Repository) -> Policy:
        """How it keeps up with its upstream; one that is here is always asked."""
        remote = repository.remote
        assert remote is not None
        upstream = self._parse(repository)
        here = isinstance(upstream, OwnUpstream) and (
            await self._metadata.find_repository(upstream.project, upstream.repository_id)
        )
        return Policy(
            ttl_s=0.0 if here else float(remote.tag_ttl_s),
            negative_ttl_s=0.0 if here else float(remote.negative_ttl_s),
            serve_deleted=remote.serve_deleted,
        )
