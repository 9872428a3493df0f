"""A request and its answer: by http or https, by way of redirects; not retried, and nobody is asked who we are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from hakobune.distribution.access import Access
from hakobune.distribution.connections import TRANSPORT_ERRORS, Answer, Connections
from hakobune.distribution.errors import NoAnswerError, RegistryError, no_answer
from hakobune.distribution.redirect import is_same_host, resolve_location, why_not_followed
from hakobune.distribution.registries import Endpoint
from hakobune.distribution.request import Request

_MOST_REDIRECTS: Final = 6
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Exchange:
    """Connections, and how each host is spoken to. Threads share it; `close` closes the connections."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._connections = Connections(
            access.proxies,
            tls_files=access.registries.tls_files,
            stall_s=access.stall_s,
            connect_s=access.connect_s,
            head_s=access.head_s,
        )
        self._bases: dict[str, str] = {}
        self._bases_lock = threading.Lock()

    def close(self) -> None:
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

    def first_contact(self, request: Request, endpoint: Endpoint) -> Answer | None:
        """On loopback, ask in plain HTTP at once: an answer that makes sense saves the question how it is spoken to."""
        if not endpoint.plain_first or request.method not in ("GET", "HEAD"):
            return None
        with self._bases_lock:
            if endpoint.host in self._bases:
                return None
        base = f"http://{endpoint.host}"
        try:
            answer = self.follow(request, endpoint, base, lambda url: "")
        except TRANSPORT_ERRORS:
            return None
        if answer.status == 400:  # "an HTTP request to an HTTPS server"
            answer.close()
            return None
        with self._bases_lock:
            self._bases[endpoint.host] = base
        return answer

    def follow(
        self,
        request: Request,
        endpoint: Endpoint,
        base: str,
        authorization: Callable[[str], str],
    ) -> Answer:
        """The answer at the end of the redirects, whatever it is.

        Args:
            base: what the request's path belongs to.
            authorization: the `Authorization` for an URL on the way; empty for none.

        Raises:
            RegistryError: a redirect is not followed.
            one of TRANSPORT_ERRORS: there is no answer.
        """
        url, method = request.url if "://" in request.url else base + request.url, request.method
        for _ in range(_MOST_REDIRECTS):
            headers = dict(request.headers)
            if known := authorization(url):
                headers["Authorization"] = known
            body = request.body() if request.body is not None and method == request.method else None
            answer = self.send(request, endpoint, url, headers, body, method=method)
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            target = resolve_location(url, location)
            why = why_not_followed(url, target, insecure=endpoint.insecure)
            if not why and request.secret and not is_same_host(url, target):
                why = "it is another host, and gets no credentials"
            if why:
                host, there = urlsplit(url).netloc, target.partition("?")[0][:200]
                raise RegistryError(
                    request.what,
                    host=host,
                    status=answer.status,
                    why=f"{host} redirects to {there!r}: {why}",
                )
            if answer.status == 303 and method != "HEAD":
                method = "GET"
            url = target
        raise RegistryError(
            request.what, host=endpoint.host, why=f"{endpoint.host} redirects in circles"
        )

    def send(
        self,
        request: Request,
        endpoint: Endpoint,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
        *,
        method: str = "",
    ) -> Answer:
        """One request to one URL.

        Raises:
            one of TRANSPORT_ERRORS: there is no answer.
        """
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
                with self.send(request, endpoint, request.url, {}, None) as answer:
                    if answer.status != 400:  # "an HTTP request to an HTTPS server"
                        return base
            except TRANSPORT_ERRORS as error:
                failures.append(error)
        if failures:
            raise explain_no_answer(self._access, what, endpoint.host, failures[0])
        return f"{schemes[0]}://{endpoint.host}"


def explain_no_answer(access: Access, what: str, host: str, error: BaseException) -> NoAnswerError:
    """The error in words; this installation's own registry can be started."""
    found = no_answer(what, host=host, error=error)
    own = access.registries.own
    if own is not None and host in own.hosts:
        found.fix = found.fix or "hako serve: the registry of this installation answers there"
    return found
