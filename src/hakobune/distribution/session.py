"""Requests to registries as one command makes them: who we are, where to, retried, redirected, explained."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from hakobune.distribution.access import Access
from hakobune.distribution.auth import Authorizer
from hakobune.distribution.challenge import parse_challenges
from hakobune.distribution.connections import TRANSPORT_ERRORS, Answer, Connections
from hakobune.distribution.credentials import ANONYMOUS
from hakobune.distribution.errors import NoAnswerError, RegistryError, describe_answer, no_answer
from hakobune.distribution.patience import (
    WORTH_ANOTHER_TRY,
    parse_retry_after,
    wait_s,
)
from hakobune.distribution.redirect import (
    base_of,
    origin_of,
    resolve_location,
    why_not_followed,
)
from hakobune.distribution.registries import Endpoint

_MOST_REDIRECTS: Final = 6
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Body = Callable[[], bytes | Iterable[bytes]]
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to send. `body` is called again for every try."""

    method: str
    url: str
    what: str  # for the error: "cannot pull registry.test/web:v2"
    headers: Mapping[str, str]
    expected: frozenset[int]
    body: Body | None = None
    scopes: tuple[str, ...] = ()
    anonymous: bool = False  # a foreign layer's URL gets no credentials
    again: bool = True  # sending it twice does no harm
    read_limit: int | None = None  # read the body up to one byte more, and close the answer


class Session:
    """Connections, tokens and patience of one command. Threads share it; a context manager.

    Args:
        note: told why something takes longer ("registry.test asks to wait 12 s").
    """

    def __init__(
        self, access: Access, *, note: Note, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.access = access
        self._note = note
        self._sleep = sleep
        self._connections = Connections(
            access.proxies,
            tls_files=access.registries.tls_files,
            stall_s=access.stall_s,
            connect_s=access.connect_s,
            head_s=access.head_s,
        )
        self._authorizer = Authorizer()
        # For hosts that registries redirect to: anonymous, since our credentials there are not theirs to use.
        self._elsewhere = Authorizer()
        self._bases: dict[str, str] = {}
        self._bases_lock = threading.Lock()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connections.close()

    def base(self, endpoint: Endpoint, what: str) -> str:
        """`https://HOST`, or `http://HOST` where that is allowed and what the host speaks.

        Raises:
            NoAnswerError: nobody answers.
        """
        if not endpoint.insecure:
            return f"https://{endpoint.host}"
        if endpoint.socket is not None:
            return f"http://{endpoint.host}"
        with self._bases_lock:
            if endpoint.host not in self._bases:
                self._bases[endpoint.host] = self._try_schemes(endpoint, what)
            return self._bases[endpoint.host]

    def pause(self, seconds: float) -> None:
        """Wait before another try."""
        self._sleep(seconds)

    def send(self, request: Request, endpoint: Endpoint) -> Answer:
        """The expected answer. Redirects are followed without our credentials as soon as they leave the host.

        Raises:
            NoAnswerError, NotThereError, RateLimitError, RegistryError: after the tries that are worth it.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = self._authorized(request, endpoint)
                if answer.status in request.expected and request.read_limit is not None:
                    answer.read_whole(request.read_limit)
            except TRANSPORT_ERRORS as error:
                self._wait(
                    request, attempt, None, self._no_answer(request.what, endpoint.host, error)
                )
                continue
            if answer.status in request.expected:
                return answer
            with answer:
                asked = parse_retry_after(answer.headers.get("retry-after"), now=time.time())
                refusal = self._refusal(request, endpoint, answer, asked)
            if answer.status not in WORTH_ANOTHER_TRY:
                raise refusal
            self._wait(request, attempt, asked, refusal)

    def _wait(
        self, request: Request, attempt: int, asked: float | None, error: RegistryError
    ) -> None:
        """Sleep before the next try, or raise *error* if there is none."""
        from random import random  # only for who has to wait

        seconds = wait_s(attempt, asked_s=asked, random=random(), attempts=self.access.attempts)
        hopeless = isinstance(error, NoAnswerError) and error.final
        if seconds is None or not (request.again or error.status == 429) or hopeless:
            raise error
        if seconds >= 1.0 or asked:
            why = "asks to wait" if asked else "is tried again in"
            self._note(
                f"{error.host} {why} {seconds:.0f} s ({error.why}); try {attempt} of {self.access.attempts}"
            )
        self._sleep(seconds)

    def _no_answer(self, what: str, host: str, error: BaseException) -> NoAnswerError:
        """The error in words; this installation's own registry can be started."""
        found = no_answer(what, host=host, error=error)
        own = self.access.registries.own
        if own is not None and host in own.hosts:
            found.fix = found.fix or "hako serve: the registry of this installation answers there"
        return found

    def _refusal(
        self, request: Request, endpoint: Endpoint, answer: Answer, asked: float | None
    ) -> RegistryError:
        credentials = ANONYMOUS
        if urlsplit(answer.url).netloc == endpoint.host:
            credentials = self.access.credentials.find(endpoint.host, endpoint.repository)
        return describe_answer(
            request.what,
            host=urlsplit(answer.url).netloc,
            status=answer.status,
            body=answer.start_of_body(),
            user=credentials.user or ("(by token)" if credentials.refresh_token else ""),
            retry_after_s=asked,
        )

    def _authorized(self, request: Request, endpoint: Endpoint) -> Answer:
        """Send it, and once more for each registry on the way whose 401 can be answered."""
        first = self._first_contact(request, endpoint)
        base = self.base(endpoint, request.what)
        known = self._authorizer.header(base, request.scopes)
        answer = first or self._followed(request, endpoint, base, known)
        asked: set[str] = set()
        while answer.status == 401 and not request.anonymous:
            there = base_of(answer.url)
            if there in asked:
                break
            asked.add(there)
            with answer:
                if origin_of(there) == origin_of(base):
                    known = self._be_let_in(request, endpoint, answer, base, known)
                else:
                    self._be_let_in_elsewhere(request, endpoint, answer, there)
            answer = self._followed(request, endpoint, base, known)
        return answer

    def _be_let_in(
        self, request: Request, endpoint: Endpoint, answer: Answer, base: str, refused: str
    ) -> str:
        """The `Authorization` that answers the 401 of our registry.

        Raises:
            RegistryError: there is none.
        """
        header = self._authorizer.answer(
            parse_challenges(answer.header_values("www-authenticate")),
            base=base,
            scopes=request.scopes,
            refused=refused,
            credentials=self.access.credentials.find(endpoint.host, endpoint.repository),
            send=partial(self._ask_for_token, endpoint, request.what),
            what=request.what,
        )
        if not header:
            raise self._refusal(request, endpoint, answer, None)
        return header

    def _be_let_in_elsewhere(
        self, request: Request, endpoint: Endpoint, answer: Answer, there: str
    ) -> None:
        """Get a token of a registry that ours redirects to and that wants one (lscr.io's images lie at ghcr.io).

        Raises:
            RegistryError: it gives none to strangers.
        """
        header = self._elsewhere.answer(
            parse_challenges(answer.header_values("www-authenticate")),
            base=there,
            scopes=(),
            refused=self._elsewhere.header(there, ()),
            credentials=ANONYMOUS,
            send=partial(self._ask_for_token, endpoint, request.what),
            what=request.what,
        )
        if not header:
            raise self._refusal(request, endpoint, answer, None)

    def _first_contact(self, request: Request, endpoint: Endpoint) -> Answer | None:
        """On loopback, ask in plain HTTP at once: an answer that makes sense saves the question how it is spoken to."""
        if not endpoint.plain_first or request.method not in ("GET", "HEAD"):
            return None
        with self._bases_lock:
            if endpoint.host in self._bases:
                return None
        base = f"http://{endpoint.host}"
        try:
            answer = self._followed(request, endpoint, base, "")
        except TRANSPORT_ERRORS:
            return None
        if answer.status == 400:  # "an HTTP request to an HTTPS server"
            answer.close()
            return None
        with self._bases_lock:
            self._bases[endpoint.host] = base
        return answer

    def _ask_for_token(
        self,
        endpoint: Endpoint,
        what: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            host = urlsplit(url).netloc
            request = Request(
                method=method, url=url, what=what, headers=headers, expected=frozenset()
            )
            try:
                answer = self._send_once(request, endpoint, url, headers, body)
            except TRANSPORT_ERRORS as error:
                self._wait(request, attempt, None, no_answer(what, host=host, error=error))
                continue
            if answer.status not in WORTH_ANOTHER_TRY:
                return answer
            with answer:
                asked = parse_retry_after(answer.headers.get("retry-after"), now=time.time())
                refusal = describe_answer(
                    what,
                    host=host,
                    status=answer.status,
                    body=answer.start_of_body(),
                    user="",
                    retry_after_s=asked,
                )
            self._wait(request, attempt, asked, refusal)

    def _followed(
        self, request: Request, endpoint: Endpoint, base: str, authorization: str
    ) -> Answer:
        url, method = request.url if "://" in request.url else base + request.url, request.method
        for _ in range(_MOST_REDIRECTS):
            headers = dict(request.headers)
            # Never across hosts: object stores refuse it, and others would keep it.
            own = origin_of(url) == origin_of(base)
            if known := authorization if own else self._elsewhere.header(base_of(url), ()):
                headers["Authorization"] = known
            body = request.body() if request.body is not None and method == request.method else None
            answer = self._send_once(request, endpoint, url, headers, body, method=method)
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            target = resolve_location(url, location)
            why = why_not_followed(url, target, insecure=endpoint.insecure)
            if why:
                raise RegistryError(
                    request.what,
                    host=endpoint.host,
                    status=answer.status,
                    why=f"{endpoint.host} redirects to {urlsplit(target).netloc!r}: {why}",
                )
            if answer.status == 303 and method != "HEAD":
                method = "GET"
            url = target
        raise RegistryError(
            request.what, host=endpoint.host, why=f"{endpoint.host} redirects in circles"
        )

    def _send_once(
        self,
        request: Request,
        endpoint: Endpoint,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
        *,
        method: str = "",
    ) -> Answer:
        host = urlsplit(url).netloc
        return self._connections.send(
            method or request.method,
            url,
            headers,
            body,
            insecure=endpoint.insecure,
            unix_socket=endpoint.socket if host == endpoint.host else None,
        )

    def _try_schemes(self, endpoint: Endpoint, what: str) -> str:
        """Ask for `/v2/` without credentials, in both ways; the first that understands us counts."""
        schemes = ("http", "https") if endpoint.plain_first else ("https", "http")
        failures: list[BaseException] = []
        for scheme in schemes:
            base = f"{scheme}://{endpoint.host}"
            request = Request(
                method="GET", url=f"{base}/v2/", what=what, headers={}, expected=frozenset()
            )
            try:
                with self._send_once(request, endpoint, request.url, {}, None) as answer:
                    if answer.status != 400:  # "an HTTP request to an HTTPS server"
                        return base
            except TRANSPORT_ERRORS as error:
                failures.append(error)
        if failures:
            raise self._no_answer(what, endpoint.host, failures[0])
        return f"{schemes[0]}://{endpoint.host}"


def plain_scopes(repository: str, actions: str, also: Sequence[str] = ()) -> tuple[str, ...]:
    """The scopes of a token for *repository*, and for pulling from the repositories *also* (mounts)."""
    if not actions:
        return ()
    return (
        f"repository:{repository}:{actions}",
        *(f"repository:{other}:pull" for other in also),
    )
