"""Every endpoint of the registry by what its path names and its method, and what its errors are answered with."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from hakobune import __version__
from hakobune.errors import HakoError
from hakobune.iam.roles import DELETE, PULL, PUSH
from hakobune.registry.admission import Admission, RefusedError
from hakobune.registry.answer import API_VERSION, JSON, Answer, Headers, error_answer, json_answer
from hakobune.registry.arriving import ClientGoneError
from hakobune.registry.connection import Connection
from hakobune.registry.errors import RegistryError
from hakobune.registry.exchange import Exchange
from hakobune.registry.head import Head
from hakobune.registry.listing import answer_referrers, list_catalog, list_referrers, list_tags
from hakobune.registry.metrics import render
from hakobune.registry.mirror import NAMED, under
from hakobune.registry.parts import Parts
from hakobune.registry.pull import get_blob, get_manifest, head_blob
from hakobune.registry.push import delete_blob, delete_manifest, put_manifest
from hakobune.registry.receive import (
    append_chunk,
    cancel_upload,
    describe_upload,
    finish_upload,
    start_upload,
)
from hakobune.registry.route import Kind, Route, split_name
from hakobune.registry.token_endpoint import BODY_LIMIT, TokenEndpoint, TokenRequest
from hakobune.registry.upstream_metrics import rate_limit_lines
from hakobune.state.errors import DatabaseError

Endpoint = Callable[[Parts, Exchange], Awaitable[Answer]]

# What needs which permission. Starting an upload is apart: it may ask about other repositories.
_ENDPOINTS: Final[Mapping[tuple[Kind, str], tuple[Endpoint, str]]] = {
    (Kind.MANIFEST, "GET"): (get_manifest, PULL),
    (Kind.MANIFEST, "HEAD"): (get_manifest, PULL),
    (Kind.MANIFEST, "PUT"): (put_manifest, PUSH),
    (Kind.MANIFEST, "DELETE"): (delete_manifest, DELETE),
    (Kind.BLOB, "GET"): (get_blob, PULL),
    (Kind.BLOB, "HEAD"): (head_blob, PULL),
    (Kind.BLOB, "DELETE"): (delete_blob, DELETE),
    (Kind.UPLOAD, "PATCH"): (append_chunk, PUSH),
    (Kind.UPLOAD, "PUT"): (finish_upload, PUSH),
    (Kind.UPLOAD, "GET"): (describe_upload, PUSH),
    (Kind.UPLOAD, "HEAD"): (describe_upload, PUSH),
    (Kind.UPLOAD, "DELETE"): (cancel_upload, PUSH),
    (Kind.TAGS, "GET"): (list_tags, PULL),
    (Kind.TAGS, "HEAD"): (list_tags, PULL),
    (Kind.REFERRERS, "GET"): (list_referrers, PULL),
    (Kind.REFERRERS, "HEAD"): (list_referrers, PULL),
}
_OTHERS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.BASE: ("GET", "HEAD"),
    Kind.CATALOG: ("GET", "HEAD"),
    Kind.UPLOADS: ("POST",),
    Kind.TOKEN: ("GET", "POST"),
    Kind.HEALTH: ("GET", "HEAD"),
    Kind.METRICS: ("GET", "HEAD"),
    Kind.API: ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
}
# These are no part of the distribution-spec.
_APART: Final = (Kind.HEALTH, Kind.METRICS, Kind.TOKEN, Kind.API)

logger = logging.getLogger(__name__)


class App:
    """Answers requests."""

    def __init__(self, parts: Parts, admission: Admission, tokens: TokenEndpoint) -> None:
        self._parts = parts
        self._admission = admission
        self._tokens = tokens

    async def answer(self, connection: Connection, head: Head, route: Route) -> Answer:
        """The answer to any request.

        Raises:
            ClientGoneError: nobody is there to be answered.
        """
        exchange = Exchange(connection, head, route)
        try:
            headers = await self._choose(exchange)
            answer = await self._answer(exchange)
            if headers:
                answer = replace(answer, headers=(*headers, *answer.headers))
        except ClientGoneError:
            raise
        except RegistryError as error:
            answer = _refusal(error)
        except DatabaseError as error:
            logger.error("the database did not answer", extra={"reason": str(error)})
            answer = error_answer(
                503, "UNAVAILABLE", "the registry's database is not available", headers=_RETRY
            )
        except OSError as error:
            answer = _system_failure(error, head.target)
        except Exception:
            logger.exception("a request failed", extra={"target": head.target})
            answer = _failure()
        if API_VERSION in answer.headers or route.kind in _APART:
            return answer
        return Answer(
            status=answer.status,
            headers=(API_VERSION, *answer.headers),
            body=answer.body,
            length=answer.length,
        )

    async def _choose(self, exchange: Exchange) -> Headers:
        """Let `?ns=` say which repository is meant, if the path does not; what the answer says about that."""
        mirrors = self._parts.mirrors
        namespace = exchange.parameter("ns") if mirrors.entries and exchange.head.query else None
        target = mirrors.by_namespace(namespace) if namespace else None
        if target is None or exchange.route.kind not in NAMED:
            return ()
        name = split_name(exchange.route.name)
        if name and await self._parts.metadata.find_repository(name.project, name.repository):
            return ()
        exchange.route = under(exchange.route, target)
        return (("OCI-Namespace", namespace or ""),)

    async def _answer(self, exchange: Exchange) -> Answer:
        kind, method = exchange.route.kind, exchange.head.method
        if found := _ENDPOINTS.get((kind, method)):
            endpoint, permission = found
            try:
                await self._admission.admit(exchange, permission)
            except RegistryError as error:
                if kind is Kind.REFERRERS and error.code == "NAME_UNKNOWN":
                    return answer_referrers((), "")  # of nothing there are none (end-12)
                raise
            return await endpoint(self._parts, exchange)
        if method not in _OTHERS.get(kind, ()):
            raise _not_allowed(exchange)
        match kind:
            case Kind.UPLOADS:
                await self._admission.admit(exchange, PUSH)
                return await start_upload(self._parts, self._admission, exchange)
            case Kind.BASE:
                await self._admission.admit_base(exchange)
                return json_answer(200, {})
            case Kind.CATALOG:
                visible = await self._admission.admit_catalog(exchange)
                return await list_catalog(self._parts, exchange, visible)
            case Kind.TOKEN:
                return await self._give_token(exchange)
            case Kind.HEALTH:
                return await self._health(exchange)
            case Kind.API:
                _refuse_proxy(exchange)
                from hakobune.registry.api_call import call_api  # http.client costs a worker 3 MB

                return await call_api(self._parts, exchange)
            case _:
                return self._metrics(exchange)

    async def _give_token(self, exchange: Exchange) -> Answer:
        scheme, _, host = exchange.origin.partition("://")
        return await self._tokens.answer(
            TokenRequest(
                method=exchange.head.method,
                query=exchange.head.query,
                peer=exchange.peer,
                scheme=scheme,
                host=host,
                authorization=exchange.head.get("authorization"),
                body=await exchange.read(BODY_LIMIT),
                identified=exchange.set_actor,
                rename=lambda name: self._parts.mirrors.expand(name, host=host),
            )
        )

    async def _health(self, exchange: Exchange) -> Answer:
        """Whether the database answers; not told through HAProxy, where the address is the product's."""
        _refuse_proxy(exchange)
        await self._parts.metadata.sql.fetch_row("SELECT 1")
        return json_answer(200, {"status": "ok", "version": __version__})

    def _metrics(self, exchange: Exchange) -> Answer:
        _refuse_proxy(exchange)
        metrics = self._parts.metrics
        text = render(metrics.page, tuple(rate_limit_lines(self._parts.run, metrics.page.workers)))
        headers = (("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),)
        return Answer(status=200, headers=headers, body=text.encode())


def _refusal(error: RegistryError) -> Answer:
    headers: Headers = (("Content-Type", JSON),)
    if isinstance(error, RefusedError) and error.challenge:
        headers += (("WWW-Authenticate", error.challenge),)
    if error.retry_after_s is not None:
        headers += (("Retry-After", str(error.retry_after_s)),)
    return Answer(status=error.status, headers=headers, body=error.body())


def _system_failure(error: OSError, target: str) -> Answer:
    """Full, or for a while unable: the client may come again. Everything else that the system says is our fault."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _refusal(
            RegistryError("INSUFFICIENT_STORAGE", "the registry's disk is full", retry_after_s=60)
        )
    if isinstance(error, HakoError) or error.errno in (errno.EMFILE, errno.ENFILE):
        logger.error("the storage did not answer", extra={"reason": str(error), "target": target})
        return error_answer(
            503, "UNAVAILABLE", "the registry's storage does not answer", headers=_RETRY
        )
    logger.error("a request failed", exc_info=error, extra={"target": target})
    return _failure()


def _failure() -> Answer:
    return error_answer(500, "UNKNOWN", "the registry has failed; its log says why")


def _not_allowed(exchange: Exchange) -> RegistryError:
    kind, method = exchange.route.kind, exchange.head.method
    if kind is Kind.OTHER:
        return RegistryError(
            "NAME_UNKNOWN", "there is nothing at this path: images are at /v2/NAME/…"
        )
    return RegistryError("UNSUPPORTED", f"{method} is not something that can be done here")


def _refuse_proxy(exchange: Exchange) -> None:
    if exchange.peer.via_proxy:
        raise RegistryError("NAME_UNKNOWN", "there is nothing at this path")


_RETRY: Final = (("Retry-After", "5"),)
