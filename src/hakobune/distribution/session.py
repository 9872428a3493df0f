"""Requests to registries as one command makes them: who we are, retried, explained."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from urllib.parse import urlsplit

from hakobune.distribution.access import Access
from hakobune.distribution.auth import Authorizer
from hakobune.distribution.challenge import parse_challenges
from hakobune.distribution.connections import TRANSPORT_ERRORS, Answer
from hakobune.distribution.credentials import ANONYMOUS
from hakobune.distribution.errors import NoAnswerError, RegistryError, describe_answer, no_answer
from hakobune.distribution.exchange import Exchange, explain_no_answer
from hakobune.distribution.patience import (
    MIRROR_ATTEMPTS,
    WORTH_ANOTHER_TRY,
    parse_retry_after,
    wait_s,
)
from hakobune.distribution.redirect import base_of, origin_of
from hakobune.distribution.registries import Endpoint
from hakobune.distribution.request import Request

Note = Callable[[str], None]


class Session:
    """Connections, tokens and patience of one command. Threads share it; a context manager.

    Args:
        note: told why something takes longer ("registry.test asks to wait 12 s").

    Attributes:
        lost: mirrors that did not answer; they are not asked again.
    """

    def __init__(
        self, access: Access, *, note: Note, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.access = access
        self._note = note
        self._sleep = sleep
        self._exchange = Exchange(access)
        self.lost: set[str] = set()
        self._authorizer = Authorizer()
        # For hosts that registries redirect to: anonymous, since our credentials there are not theirs to use.
        self._elsewhere = Authorizer()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exchange.close()

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
                    request,
                    endpoint,
                    attempt,
                    None,
                    explain_no_answer(self.access, request.what, endpoint.host, error),
                )
                continue
            if answer.status in request.expected:
                return answer
            with answer:
                asked = parse_retry_after(answer.headers.get("retry-after"), now=time.time())
                refusal = self._refusal(request, endpoint, answer, asked)
            if answer.status not in WORTH_ANOTHER_TRY:
                raise refusal
            self._wait(request, endpoint, attempt, asked, refusal)

    def _wait(
        self,
        request: Request,
        endpoint: Endpoint,
        attempt: int,
        asked: float | None,
        error: RegistryError,
    ) -> None:
        """Sleep before the next try, or raise *error* if there is none."""
        from random import random  # only for who has to wait

        attempts = MIRROR_ATTEMPTS if endpoint.mirror else self.access.attempts
        seconds = wait_s(attempt, asked_s=asked, random=random(), attempts=attempts)
        hopeless = isinstance(error, NoAnswerError) and error.final
        if seconds is None or not (request.again or error.status == 429) or hopeless:
            raise error
        if seconds >= 1.0 or asked:
            why = "asks to wait" if asked else "is tried again in"
            self._note(
                f"{error.host} {why} {seconds:.0f} s ({error.why}); try {attempt} of {attempts}"
            )
        self._sleep(seconds)

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
        first = self._exchange.first_contact(request, endpoint)
        base = self._exchange.base(endpoint, request.what)
        known = self._authorizer.header(base, request.scopes)
        answer = first or self._follow(request, endpoint, base, known)
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
            answer = self._follow(request, endpoint, base, known)
        return answer

    def _follow(
        self, request: Request, endpoint: Endpoint, base: str, authorization: str
    ) -> Answer:
        """Never with our `Authorization` across hosts: object stores refuse it, and others would keep it."""

        def authorization_for(url: str) -> str:
            own = origin_of(url) == origin_of(base)
            return authorization if own else self._elsewhere.header(base_of(url), ())

        return self._exchange.follow(request, endpoint, base, authorization_for)

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

    def _ask_for_token(
        self,
        endpoint: Endpoint,
        what: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Answer:
        """The token server's answer, whatever it is; credentials stay at the host that they are sent to."""
        attempt, host = 0, urlsplit(url).netloc
        request = Request(
            method=method,
            url=url,
            what=what,
            headers=headers,
            expected=frozenset(),
            body=None if body is None else lambda: body,
            secret=body is not None or "Authorization" in headers,
        )
        while True:
            attempt += 1
            try:
                answer = self._exchange.follow(request, endpoint, "", lambda _: "")
            except TRANSPORT_ERRORS as error:
                self._wait(
                    request, endpoint, attempt, None, no_answer(what, host=host, error=error)
                )
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
            self._wait(request, endpoint, attempt, asked, refusal)
