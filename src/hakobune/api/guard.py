"""Who calls over TCP: the owner by the installation's token, others by an access token of theirs.

A web page must not be able to deploy to localhost, so `Host` must be ours and a foreign `Origin` is refused, token or
not. Reads want a token, too: a service's environment is often a secret. What a caller may do is decided route by route
(`api.caller`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from hakobune.api.caller import set_caller
from hakobune.api.errors import PermissionDeniedError, UnauthenticatedError, answer_hako_error
from hakobune.errors import HakoError
from hakobune.iam.authenticate import Authenticator
from hakobune.iam.errors import BadCredentialsError
from hakobune.iam.principal import Principal


def check_origin(headers: Mapping[str, str], *, hosts: Collection[str]) -> None:
    """Decide whether a call over TCP comes from where calls are taken (pure).

    Args:
        hosts: the host names, without port, under which the API may be called.

    Raises:
        PermissionDeniedError: the host or the origin is not ours.
    """
    host = _host(headers.get("host", ""))
    if host not in hosts:
        raise PermissionDeniedError(f"the API is not served under the host name {host!r}")
    origin = headers.get("origin")
    if origin and _host(urlsplit(origin).netloc) not in hosts:
        raise PermissionDeniedError(f"pages of {origin} may not call this API")


async def authenticate(authorization: str | None, authenticator: Authenticator) -> Principal:
    """Who calls.

    Raises:
        UnauthenticatedError: no token, or one that is not good for the API.
    """
    if authorization is None:
        raise UnauthenticatedError(
            "the call carries no access token",
            fix="send `Authorization: Bearer $(hako auth print-access-token)`",
        )
    try:
        if authorization.partition(" ")[0].lower() != "bearer":
            raise BadCredentialsError("the Authorization is not Bearer")
        identity = await authenticator.header(authorization)
    except BadCredentialsError as error:
        raise UnauthenticatedError(error.what, fix="hako auth print-access-token") from error
    if identity.token is not None:
        raise UnauthenticatedError(
            "the token is good for the registry only", fix="hako auth print-access-token"
        )
    return identity.principal


class TokenGuard:
    """Lets calls of known callers through to *app*, which asks `caller_of` who it is."""

    def __init__(
        self, app: ASGIApp, *, hosts: Collection[str], authenticator: Authenticator
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                check_origin(headers, hosts=self._hosts)
                caller = await authenticate(headers.get("authorization"), self._authenticator)
            except HakoError as error:
                response = await answer_hako_error(Request(scope), error)
                await response(scope, receive, send)
                return
            set_caller(scope, caller)
        await self._app(scope, receive, send)


def _host(netloc: str) -> str:
    """The host of `host:port` or `[v6]:port`, in lower case."""
    if netloc.startswith("["):
        return netloc.partition("]")[0].removeprefix("[").lower()
    return netloc.partition(":")[0].lower()
