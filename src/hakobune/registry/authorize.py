"""Who may do what in the registry: one question for every request, answered from memory while nothing has changed.

A decision is remembered until its credentials end or rights change: a push bumps the generation, but changes no rights, and
costs one small read here. What a client is told reveals nothing: a repository that is not there and one that is
private are refused in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar

from hakobune.iam import resource
from hakobune.iam.authenticate import NOBODY, Authenticator, Identity
from hakobune.iam.errors import BadCredentialsError
from hakobune.iam.principal import ANONYMOUS, OWNER, Principal
from hakobune.iam.roles import CREATE_ON_PUSH, DELETE, PULL, PUSH
from hakobune.iam.store import IamStore
from hakobune.registry.generation import Generation
from hakobune.registry.peer import Peer
from hakobune.registry.repository import Repository

# What a permission is called in the scope of a token (distribution's "Token Scope").
ACTIONS: Final = {PULL: "pull", PUSH: "push", DELETE: "delete", CREATE_ON_PUSH: "push"}
CATALOG: Final = ("registry", "catalog", "*")

_ENTRIES: Final = 16384
_HOST: Final = re.compile(
    r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:[0-9]{1,5})?"
)


class Outcome(Enum):
    """What to do with a request."""

    ALLOWED = auto()
    CHALLENGE = auto()  # 401 with `WWW-Authenticate`: other credentials may do
    DENIED = auto()  # 403: who asks is known, and may not


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to one question.

    Attributes:
        error: of a challenge: "", `invalid_token` or `insufficient_scope`.
        reason: for the client.
        expires_at: seconds since 1970 until which it holds if no right changes.
    """

    outcome: Outcome
    principal: Principal = ANONYMOUS
    error: str = ""
    reason: str = ""
    expires_at: float = float("inf")

    @property
    def allowed(self) -> bool:
        return self.outcome is Outcome.ALLOWED


_OWNER_MAY: Final = Decision(outcome=Outcome.ALLOWED, principal=OWNER)
_Key = tuple[str | None, str, int, str]
K = TypeVar("K")
V = TypeVar("V")


class Authorizer:
    """The decisions of one worker."""

    def __init__(
        self,
        iam: IamStore,
        authenticator: Authenticator,
        generation: Generation,
        *,
        clock: Callable[[], float],
    ) -> None:
        """
        Args:
            clock: seconds since 1970.
        """
        self._iam = iam
        self._authenticator = authenticator
        self._cells = generation.cells
        self._clock = clock
        self._generation = -1
        self._revision = -1
        self._decisions: dict[_Key, Decision] = {}
        self._identities: dict[str, Identity] = {}

    def cached(
        self,
        authorization: str | None,
        peer: Peer,
        permission: str,
        repository: Repository | None,
        name: str,
    ) -> Decision | None:
        """What `decide` would answer, if that is known without asking anybody."""
        if peer.owner and authorization is None:
            return _OWNER_MAY
        if self._cells[0] != self._generation:
            return None
        key = (authorization, permission, repository.id if repository else 0, name)
        found = self._decisions.get(key)
        return found if found is not None and found.expires_at > self._clock() else None

    async def decide(
        self,
        authorization: str | None,
        peer: Peer,
        permission: str,
        repository: Repository | None,
        name: str,
    ) -> Decision:
        """Whether the request may go on.

        Args:
            authorization: the header as it came.
            permission: a key of `ACTIONS`.
            repository: what *name* begins with; None if there is none of that name (then the project decides, and
                only who is allowed may be told so).
            name: `PROJECT/REPOSITORY/IMAGE`.
        """
        if found := self.cached(authorization, peer, permission, repository, name):
            return found
        generation = await self._refresh()
        if found := self.cached(authorization, peer, permission, repository, name):
            return found  # something else had changed
        try:
            identity = await self._identify(authorization, peer)
        except BadCredentialsError as error:
            return _bad_credentials(error)
        decision = await self._decide(identity, permission, repository, name)
        if self._generation == generation:
            key = (authorization, permission, repository.id if repository else 0, name)
            _remember(self._decisions, key, decision)
        return decision

    async def decide_base(self, authorization: str | None, peer: Peer) -> Decision:
        """Whether `/v2/` answers: for everybody who is somebody, and for whoever has a token of ours.

        `docker login` asks this to learn whether what it got is right.
        """
        await self._refresh()
        try:
            identity = await self._identify(authorization, peer)
        except BadCredentialsError as error:
            return _bad_credentials(error)
        if identity is NOBODY:
            return Decision(outcome=Outcome.CHALLENGE)
        return Decision(outcome=Outcome.ALLOWED, principal=identity.principal)

    async def decide_catalog(self, authorization: str | None, peer: Peer) -> Decision:
        """Whether the catalog may be asked for; which names it has is `visible`'s."""
        decision = await self.decide_base(authorization, peer)
        if decision.allowed:
            identity = await self._identify(authorization, peer)
            if identity.token and not identity.token.allows(*CATALOG):
                return Decision(
                    outcome=Outcome.CHALLENGE,
                    principal=identity.principal,
                    error="insufficient_scope",
                )
        return decision

    async def visible(
        self, principal: Principal, repositories: Iterable[Repository]
    ) -> tuple[Repository, ...]:
        """Those of *repositories* that *principal* may pull from."""
        return tuple(
            [
                r
                for r in repositories
                if (await self._iam.check(principal, PULL, r.resource)).allowed
            ]
        )

    async def identify(self, authorization: str | None, peer: Peer) -> Identity:
        """Who asks, for the token endpoint.

        Raises:
            BadCredentialsError: what was sent proves nothing.
        """
        await self._refresh()
        return await self._identify(authorization, peer)

    async def may(
        self, principal: Principal, permission: str, repository: Repository | None, project: str
    ) -> bool:
        """Whether a principal has a permission on a repository, or on the project where there is none."""
        where = repository.resource if repository else resource.project(project)
        return (await self._iam.check(principal, permission, where)).allowed

    async def _refresh(self) -> int:
        """Drop what is no longer true; returns the generation that is known to be looked at."""
        generation = self._cells[0]
        if generation != self._generation:
            revision = await self._iam.refresh()
            if revision != self._revision:
                self._decisions.clear()
                self._identities.clear()
                self._revision = revision
            self._generation = generation
        return generation

    async def _identify(self, authorization: str | None, peer: Peer) -> Identity:
        if authorization is None:
            return Identity(OWNER, float("inf")) if peer.owner else NOBODY
        found = self._identities.get(authorization)
        if found is not None and found.expires_at > self._clock():
            return found
        generation = self._generation
        identity = await self._authenticator.header(authorization)
        if self._generation == generation:
            _remember(self._identities, authorization, identity)
        return identity

    async def _decide(
        self, identity: Identity, permission: str, repository: Repository | None, name: str
    ) -> Decision:
        principal, token = identity.principal, identity.token
        project = name.partition("/")[0]
        if not await self.may(principal, permission, repository, project):
            return _refusal(identity, permission, name)
        if token is not None and not token.allows("repository", name, ACTIONS[permission]):
            return Decision(
                outcome=Outcome.CHALLENGE,
                principal=principal,
                error="insufficient_scope",
                reason="the token is not good for this",
                expires_at=identity.expires_at,
            )
        return Decision(
            outcome=Outcome.ALLOWED, principal=principal, expires_at=identity.expires_at
        )


def scope_of(permission: str, name: str) -> str:
    """The scope to ask a token for (distribution's "Token Scope"): who may push wants to pull as well."""
    action = ACTIONS[permission]
    return f"repository:{name}:{'pull,push' if action == 'push' else action}"


def challenge(decision: Decision, *, scheme: str, host: str, scope: str = "") -> str:
    """The `WWW-Authenticate` of a refusal. The token endpoint is where the client already is.

    Args:
        scheme: how the client has come, http or https.
        host: the Host it has named; not repeated if it is none.
    """
    host = safe_host(host)
    fields = [f'realm="{scheme}://{host}/v2/token"', f'service="{host}"']
    if scope:
        fields.append(f'scope="{scope}"')
    if decision.error:
        fields.append(f'error="{decision.error}"')
    return f"Bearer {','.join(fields)}"


def safe_host(host: str) -> str:
    """*host* if it is HOST or HOST:PORT and nothing else."""
    return host if _HOST.fullmatch(host) else "localhost"


def _refusal(identity: Identity, permission: str, name: str) -> Decision:
    place = "/".join(name.split("/")[:2])
    reason = f'permission "{permission}" denied on repository "{place}" (or it may not exist)'
    if identity.principal.is_known:
        return Decision(
            outcome=Outcome.DENIED,
            principal=identity.principal,
            reason=reason,
            expires_at=identity.expires_at,
        )
    return Decision(
        outcome=Outcome.CHALLENGE,
        error="insufficient_scope" if identity.token else "",
        reason=f"unauthenticated request: {reason}",
        expires_at=identity.expires_at,
    )


def _bad_credentials(error: BadCredentialsError) -> Decision:
    return Decision(outcome=Outcome.CHALLENGE, error="invalid_token", reason=error.what)


def _remember(cache: dict[K, V], key: K, value: V) -> None:
    """Keep what was found out; a full cache starts anew."""
    if len(cache) >= _ENTRIES:
        cache.clear()
    cache[key] = value
