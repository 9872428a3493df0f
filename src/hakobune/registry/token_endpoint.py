"""Tokens for registry clients, at `/v2/token` and `/token`, as docker, podman, skopeo, crane and containerd ask for them.

GET with Basic or without (distribution's "Token Authentication Specification"), POST with a form (its OAuth 2 sibling), and
the JWT-bearer grant of RFC 7523, which is `token_uri` in a service account's key file. Missing rights never fail a request:
the token then is good for less, in the end for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from hakobune.iam.authenticate import Authenticator, Identity
from hakobune.iam.errors import BadCredentialsError
from hakobune.iam.roles import CREATE_ON_PUSH, DELETE, PULL, PUSH
from hakobune.iam.store import DEFAULT_TOKEN_S, SHORTEST_TOKEN_S, IamStore
from hakobune.iam.token import Access, read_parts
from hakobune.registry.answer import Answer, Headers, json_answer
from hakobune.registry.authorize import CATALOG, Authorizer, safe_host
from hakobune.registry.peer import Peer
from hakobune.registry.repository import Repository
from hakobune.registry.route import is_name, split_name

BODY_LIMIT: Final = 64 * 1024
SCOPE_LIMIT: Final = 64
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_NO_STORE: Final = ("Cache-Control", "no-store")
_PERMISSIONS: Final = {"pull": PULL, "push": PUSH, "delete": DELETE}


def _nothing(_: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A request for a token. `repr` shows no credentials.

    Attributes:
        body: of a POST, at most `BODY_LIMIT` bytes.
        scheme: how the client has come, http or https.
        host: the Host it has named.
        identified: is told who asks, once that is known; for the log.
        rename: what a repository's name at that host means here (a mirror's host stands for a repository).
    """

    method: str
    query: str
    peer: Peer
    scheme: str
    host: str
    authorization: str | None = None
    body: bytes = b""
    rename: Callable[[str], str] = str
    identified: Callable[[str], None] = _nothing

    def __repr__(self) -> str:
        return f"TokenRequest({self.method!r}, host={self.host!r})"


class FindRepository(Protocol):
    """Looks a repository up by project and name."""

    async def __call__(self, project: str, name: str) -> Repository | None: ...


Fields = Mapping[str, Sequence[str]]


class TokenEndpoint:
    """Gives out tokens."""

    def __init__(
        self,
        iam: IamStore,
        authenticator: Authenticator,
        authorizer: Authorizer,
        find_repository: FindRepository,
    ) -> None:
        self._iam = iam
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._find_repository = find_repository

    async def answer(self, request: TokenRequest) -> Answer:
        """The answer to a GET or POST; other methods are refused."""
        if request.method not in ("GET", "POST"):
            return _failure(405, "unsupported", "a token is asked for with GET or POST")
        try:
            if request.method == "GET":
                return await self._answer_get(request)
            return await self._answer_post(request)
        except BadCredentialsError as error:
            return _refused(error, request)

    async def _answer_get(self, request: TokenRequest) -> Answer:
        fields = _fields(request.query)
        identity = await self._authorizer.identify(request.authorization, request.peer)
        wants_login = _first(fields, "offline_token").lower() in ("true", "1")
        return await self._give(identity, fields, request, login=wants_login)

    async def _answer_post(self, request: TokenRequest) -> Answer:
        fields = _fields(request.body.decode("utf-8", "replace"))
        match _first(fields, "grant_type"):
            case "refresh_token":
                login = _first(fields, "refresh_token")
                identity = await self._authenticator.login(login)
                return await self._give(identity, fields, request, same_login=login)
            case "password":
                identity = await self._authenticator.basic(
                    _first(fields, "username"), _first(fields, "password")
                )
                offline = _first(fields, "access_type") == "offline"
                return await self._give(identity, fields, request, login=offline)
            case grant if grant == JWT_BEARER:
                return await self._answer_assertion(_first(fields, "assertion"), request)
            case _:
                return _failure(
                    400,
                    "unsupported_grant_type",
                    f"grant_type is refresh_token, password or {JWT_BEARER}",
                )

    async def _answer_assertion(self, text: str, request: TokenRequest) -> Answer:
        base = f"{request.scheme}://{safe_host(request.host)}"
        try:
            identity = await self._authenticator.assertion(
                text, audiences=(f"{base}/token", f"{base}/v2/token")
            )
        except BadCredentialsError as error:
            return _failure(400, "invalid_grant", error.what)  # RFC 6749 section 5.2
        request.identified(str(identity.principal))
        if "target_audience" in read_parts(text)[1]:
            return _failure(400, "invalid_request", "ID tokens are not given out here")
        token, expires_at = await self._iam.issue_access_token(identity.principal)
        document = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": expires_at - self._iam.now_s,
        }
        return json_answer(200, document, (_NO_STORE,))

    async def _give(
        self,
        identity: Identity,
        fields: Fields,
        request: TokenRequest,
        *,
        login: bool = False,
        same_login: str = "",
    ) -> Answer:
        request.identified(str(identity.principal))
        if identity.token is not None:
            raise BadCredentialsError("a registry token gets no other")
        access = await self._grant(identity, _scopes(fields, request.rename))
        now = self._iam.now_s
        expires_at = now + _lifetime(identity.ends_at - now)
        service = _first(fields, "service") or safe_host(request.host)
        token = await self._iam.issue_registry_token(
            identity.principal, access, audience=service, expires_at=expires_at
        )
        document: dict[str, Any] = {
            "token": token,
            "access_token": token,
            "expires_in": expires_at - now,
            "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "scope": " ".join(f"{a.type}:{a.name}:{','.join(a.actions)}" for a in access),
        }
        if login and identity.key_id:
            same_login = await self._iam.logins.create(identity.principal, identity.key_id)
        if same_login:
            document["refresh_token"] = same_login
        return json_answer(200, document, (_NO_STORE,))

    async def _grant(self, identity: Identity, scopes: Iterable[Access]) -> tuple[Access, ...]:
        """What of *scopes* the principal may have; a scope without anything left is not there."""
        granted = []
        for scope in scopes:
            if (scope.type, scope.name) == CATALOG[:2]:
                actions: tuple[str, ...] = ("*",)  # shows to each what he may pull
            elif scope.type == "repository":
                actions = await self._actions(identity, scope)
            else:
                actions = ()
            if actions:
                granted.append(Access(scope.type, scope.name, actions))
        return tuple(granted)

    async def _actions(self, identity: Identity, scope: Access) -> tuple[str, ...]:
        name = split_name(scope.name) if is_name(scope.name) else None
        if name is None:
            return ()
        repository = await self._find_repository(name.project, name.repository)
        asked = _PERMISSIONS if "*" in scope.actions else scope.actions
        return tuple(
            [
                action
                for action in dict.fromkeys(asked)
                if action in _PERMISSIONS
                and await self._authorizer.may(
                    identity.principal,
                    _PERMISSIONS[action] if repository else CREATE_ON_PUSH,
                    repository,
                    name.project,
                )
            ]
        )


def read_scope(text: str) -> Access | None:
    """A scope (distribution's "Token Scope"), whose name may hold a `:port`; None if it is none."""
    type_, _, rest = text.partition(":")
    name, colon, actions = rest.rpartition(":")
    if not type_ or not colon or not name:
        return None
    return Access(type_.partition("(")[0], name, tuple(a for a in actions.split(",") if a))


def _scopes(fields: Fields, rename: Callable[[str], str]) -> list[Access]:
    texts = [text for value in fields.get("scope", ()) for text in value.split()]
    scopes = [scope for text in texts[:SCOPE_LIMIT] if (scope := read_scope(text))]
    return [
        Access(scope.type, rename(scope.name), scope.actions)
        if scope.type == "repository"
        else scope
        for scope in scopes
    ]


def _lifetime(left_s: float) -> int:
    """Not longer than what it was got with, but never below the minute that clients take for granted."""
    return int(max(SHORTEST_TOKEN_S, min(DEFAULT_TOKEN_S, left_s)))


def _fields(text: str) -> Fields:
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        return {}


def _first(fields: Fields, name: str) -> str:
    return fields.get(name, ("",))[0]


def _refused(error: BadCredentialsError, request: TokenRequest) -> Answer:
    realm = ("WWW-Authenticate", f'Basic realm="{safe_host(request.host)}"')
    return _failure(401, "invalid_grant", error.what, (realm,))


def _failure(status: int, error: str, message: str, headers: Headers = ()) -> Answer:
    """The words of OAuth 2 (RFC 6749 section 5.2) and of the registry in one document: each client reads its own."""
    code = "UNAUTHORIZED" if status == 401 else "UNSUPPORTED"
    document = {
        "errors": [{"code": code, "message": message}],
        "error": error,
        "error_description": message,
    }
    return json_answer(status, document, (_NO_STORE, *headers))
