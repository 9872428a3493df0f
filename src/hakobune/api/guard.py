"""Who may call: everybody who can open the unix socket, and over TCP who has the token.

A web page must not be able to deploy to localhost, so over TCP `Host` must be ours and a foreign `Origin`
is refused, token or not. Reads want the token, too: a service's environment is often a secret.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from hakobune.api.errors import (
    PermissionDeniedError,
    UnauthenticatedError,
    answer_hako_error,
)
from hakobune.serving.errors import ServingError
from hakobune.support.files import write_atomically


def load_token(path: Path) -> str:
    """The installation's token; made (readable by its owner alone) when there is none."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        token = "hako-" + secrets.token_urlsafe(32)
        write_atomically(path, token.encode() + b"\n", mode=0o600, durable=True)
        return token


def check_call(headers: Mapping[str, str], *, hosts: Collection[str], token: str) -> None:
    """Decide whether a call over TCP may pass (pure).

    Args:
        hosts: the host names, without port, under which the API may be called.

    Raises:
        PermissionDeniedError: the host or the origin is not ours.
        UnauthenticatedError: no token, or a wrong one.
    """
    host = _host(headers.get("host", ""))
    if host not in hosts:
        raise PermissionDeniedError(f"the API is not served under the host name {host!r}")
    origin = headers.get("origin")
    if origin and _host(urlsplit(origin).netloc) not in hosts:
        raise PermissionDeniedError(f"pages of {origin} may not call this API")
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise UnauthenticatedError(
            "the call carries no access token",
            fix="send `Authorization: Bearer $(hako auth print-access-token)`",
        )
    if not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise UnauthenticatedError(
            "the access token is not this installation's", fix="hako auth print-access-token"
        )


class TokenGuard:
    """Lets calls through to *app* that `check_call` lets pass."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], token: str) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                check_call(Headers(scope=scope), hosts=self._hosts, token=self._token)
            except ServingError as error:
                response = await answer_hako_error(Request(scope), error)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host(netloc: str) -> str:
    """The host of `host:port` or `[v6]:port`, in lower case."""
    if netloc.startswith("["):
        return netloc.partition("]")[0].removeprefix("[").lower()
    return netloc.partition(":")[0].lower()
