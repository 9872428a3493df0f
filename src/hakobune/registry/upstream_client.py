"""One upstream asked by HTTP for one remote repository: blocking calls, for threads.

Imported when the first upstream is asked: a worker of standard repositories never loads an HTTP client.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from hakobune.distribution.access import Access
from hakobune.distribution.client import RegistryClient
from hakobune.distribution.connections import TRANSPORT_ERRORS, Answer
from hakobune.distribution.credentials import ANONYMOUS, Credentials
from hakobune.distribution.document import Document
from hakobune.distribution.errors import (
    NoAnswerError,
    NotThereError,
    RateLimitError,
    RegistryError,
    WrongContentError,
    no_answer,
)
from hakobune.distribution.proxies import Proxies
from hakobune.distribution.registries import Endpoint, Registries
from hakobune.distribution.request import Body
from hakobune.distribution.session import Session
from hakobune.errors import HakoError
from hakobune.oci.descriptor import Descriptor
from hakobune.oci.digest import Digest
from hakobune.registry.blob_answer import BlobAnswer
from hakobune.registry.freshness import Trouble
from hakobune.registry.upstream import RegistryUpstream
from hakobune.registry.upstream_errors import AbsentError, UpstreamError

CONNECT_S: Final = 5.0
HEAD_S: Final = 15.0
STALL_S: Final = 30.0
_PAUSE_S: Final = 0.2
_MOST_TAGS: Final = 500_000
_LIMIT: Final = re.compile(r"(\d+)(?:;w=(\d+))?")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """What the upstream last said about how much may still be pulled (Docker Hub's headers)."""

    limit: int
    window_s: int
    remaining: int
    source: str  # whom it counts: an address or an account
    seen_at: float


class UpstreamClient:
    """Threads share it; `close` closes its idle connections.

    Args:
        user: empty for nobody.
        password: opens the sealed password; called when the upstream first asks who we are.
    """

    def __init__(
        self,
        upstream: RegistryUpstream,
        *,
        user: str,
        password: Callable[[], str],
        env: Mapping[str, str],
        home: Path,
    ) -> None:
        self.upstream = upstream
        self.anonymous = not user
        self.rate_limit: RateLimit | None = None
        access = Access(
            registries=Registries.read(env, home),
            credentials=_Given(upstream.host, user, password),
            proxies=Proxies.read(env),
            stall_s=STALL_S,
            connect_s=CONNECT_S,
            head_s=HEAD_S,
            attempts=1,
        )
        self._session = Session(access, note=lambda _: None)

    def close(self) -> None:
        """Close idle connections."""
        self._session.__exit__(None, None, None)

    def check_manifest(self, image: str, reference: str, known: str, *, tries: int) -> str:
        """The digest that a tag names now; empty if the upstream only tells with the content.

        Args:
            known: what it named before, or empty.

        Raises:
            AbsentError, UpstreamError: it is not there; no answer.
        """
        digest = Digest.parse(known) if known else None
        client = self._client(image)
        try:
            found = self._ask(lambda: client.check_manifest(reference, known=digest), tries)
        except _HeadRefusedError:
            return ""
        return str(found or "")

    def get_manifest(self, image: str, reference: str, *, tries: int) -> Document:
        """A manifest; its bytes have been checked against the digest.

        Raises:
            AbsentError, UpstreamError: it is not there; no answer, or wrong bytes.
        """
        client = self._client(image)
        return self._ask(lambda: client.get_manifest(reference), tries)

    def head_blob(self, image: str, digest: Digest) -> int | None:
        """The size of a blob that the upstream has; `None` if it does not say.

        Raises:
            AbsentError, UpstreamError: it is not there; no answer.
        """
        client = self._client(image)
        return self._ask(lambda: client.head_blob(digest), 2)

    def open_blob(self, image: str, digest: Digest, offset: int) -> BlobAnswer:
        """The blob's bytes from *offset* on, about to come.

        Raises:
            AbsentError, UpstreamError: it is not there; no answer.
        """
        client = self._client(image)
        answer = self._ask(lambda: client.get_blob(digest, offset=offset), 1)
        try:
            return BlobAnswer(self.upstream.host, answer, offset)
        except UpstreamError:
            answer.close()
            raise

    def tags(self, image: str) -> tuple[str, ...]:
        """All tags there.

        Raises:
            AbsentError, UpstreamError: there is no such repository; no answer.
        """
        client = self._client(image)
        return self._ask(lambda: tuple(islice(client.tags(), _MOST_TAGS)), 2)

    def referrers(self, image: str, digest: Digest) -> tuple[Descriptor, ...]:
        """All referrers there, by the fallback tag where the API is missing.

        Raises:
            UpstreamError: no answer.
        """
        client = self._client(image)
        return self._ask(lambda: client.referrers(digest), 2)

    def ping(self) -> None:
        """Ask whether a registry is there, and lets us in if we have credentials (who has none may be asked for some).

        Raises:
            AbsentError, UpstreamError: there is none; no answer, or it refuses us.
        """
        client = self._client("", actions="")
        try:
            self._ask(client.ping, 2)
        except UpstreamError as error:
            if error.trouble is not Trouble.REFUSED or not self.anonymous or not error.status:
                raise

    def _client(self, image: str, actions: str = "pull") -> _Client:
        upstream = self.upstream
        endpoint = Endpoint(
            host=upstream.host,
            repository=upstream.repository(image),
            insecure=upstream.plain,
            plain_first=upstream.plain,
        )
        what = f"{upstream.host}/{endpoint.repository}"
        return _Client(self._session, endpoint, what=what, actions=actions, notice=self._notice)

    def _ask(self, ask: Callable[[], _T], tries: int) -> _T:
        """Once more at once after a cut connection: an idle one may have ended."""
        for left in range(tries - 1, -1, -1):
            try:
                return ask()
            except NotThereError as error:
                raise AbsentError(error.host) from error
            except _HeadRefusedError:
                raise
            except RegistryError as error:
                if not left or not _may_pass(error):
                    raise _explain(error) from error
                time.sleep(_PAUSE_S)
            except TRANSPORT_ERRORS as error:
                cut = no_answer("", host=self.upstream.host, error=error)
                if not left:
                    raise _explain(cut) from error
            except (
                HakoError
            ) as error:  # our own configuration: a certificate, a proxy, a sealed password
                raise UpstreamError(
                    Trouble.REFUSED, self.upstream.host, f"{error.what}: {error.why}"
                ) from error
        raise AssertionError(f"asked {tries} times")

    def _notice(self, headers: Mapping[str, str]) -> None:
        remaining = _LIMIT.match(headers.get("ratelimit-remaining", ""))
        limit = _LIMIT.match(headers.get("ratelimit-limit", ""))
        if remaining and limit:
            self.rate_limit = RateLimit(
                limit=int(limit[1]),
                window_s=int(limit[2] or 0),
                remaining=int(remaining[1]),
                source=headers.get("docker-ratelimit-source", "")[:100],
                seen_at=time.time(),
            )


class _Client(RegistryClient):
    """Looks at the head of every answer."""

    def __init__(
        self,
        session: Session,
        endpoint: Endpoint,
        *,
        what: str,
        actions: str,
        notice: Callable[[Mapping[str, str]], None],
    ) -> None:
        super().__init__(session, endpoint, what=what, actions=actions)
        self._notice = notice

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        expected: Iterable[int] = (200,),
        body: Body | None = None,
        again: bool = True,
        read_limit: int | None = None,
    ) -> Answer:
        try:
            answer = super().call(
                method,
                path,
                headers=headers,
                expected=expected,
                body=body,
                again=again,
                read_limit=read_limit,
            )
        except RegistryError as error:
            if method == "HEAD" and error.status in (400, 405, 501):
                raise _HeadRefusedError(
                    error.what, host=error.host, status=error.status, why=error.why
                ) from error
            raise
        self._notice(answer.headers)
        return answer


class _HeadRefusedError(RegistryError):
    """The upstream does not know HEAD here."""


class _Given:
    """The credentials of one upstream, for it alone; opened when they are needed."""

    def __init__(self, host: str, user: str, password: Callable[[], str]) -> None:
        self._host = host
        self._user = user
        self._password = password
        self._opened: Credentials | None = None

    def find(self, host: str, repository: str) -> Credentials:
        if not self._user or host != self._host:
            return ANONYMOUS
        if self._opened is None:
            self._opened = Credentials(user=self._user, password=self._password())
        return self._opened


def _may_pass(error: RegistryError) -> bool:
    if isinstance(error, NoAnswerError):
        return not error.final
    return error.status in (408, 425, 500, 502, 503, 504)


def _explain(error: RegistryError) -> UpstreamError:
    """What kind of trouble it is."""
    if isinstance(error, WrongContentError):
        trouble = Trouble.WRONG
    elif isinstance(error, RateLimitError):
        trouble = Trouble.LIMITED
    elif isinstance(error, NoAnswerError):
        trouble = Trouble.UNREACHABLE
    elif error.status in (401, 403):
        trouble = Trouble.REFUSED
    else:
        trouble = Trouble.BROKEN
    return UpstreamError(
        trouble,
        error.host,
        error.why or error.what,
        status=error.status,
        retry_after_s=error.retry_after_s,
    )
