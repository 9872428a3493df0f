"""Who may do what is asked, and on which repository: the door of every endpoint about images."""

from __future__ import annotations

import time
from typing import Final

from hakobune.iam.roles import CREATE_ON_PUSH, PULL, PUSH
from hakobune.registry.authorize import Authorizer, Decision, Outcome, challenge, scope_of
from hakobune.registry.errors import RegistryError, ResourceError
from hakobune.registry.exchange import Exchange
from hakobune.registry.fast_path import FastPath, Grant
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Repository
from hakobune.registry.route import ImageName, Kind

DEFAULT_LOCATION: Final = "local"
_DEFAULT_TTL_S: Final = 3600.0


class RefusedError(RegistryError):
    """401 with a challenge, or 403."""

    def __init__(self, code: str, message: str, challenge: str) -> None:
        super().__init__(code, message)
        self.challenge = challenge


class Admission:
    """Asks the authorizer, and makes a repository at the first push of who may."""

    def __init__(self, metadata: Metadata, authorizer: Authorizer, fast: FastPath) -> None:
        self._metadata = metadata
        self._authorizer = authorizer
        self._fast = fast

    async def admit(self, exchange: Exchange, permission: str) -> None:
        """Set the exchange's repository and actor.

        Raises:
            RefusedError: the client may not.
            RegistryError: NAME_INVALID; NAME_UNKNOWN for a repository that is not there.
        """
        name = exchange.name
        generation = self._fast.generation()
        repository = self._fast.find_repository(name.project, name.repository)
        if repository is None:
            repository = await self._metadata.find_repository(name.project, name.repository)
            if repository is not None:
                self._fast.learn_repository(generation, repository)
        decision = await self._ask(exchange, permission, repository)
        if repository is None:
            repository = await self._make(exchange, permission, name)
        exchange.repository = repository
        if permission == PULL:
            self._remember(exchange, decision, generation)

    async def admit_base(self, exchange: Exchange) -> None:
        """Let in who is anybody.

        Raises:
            RefusedError: nobody has said who it is.
        """
        decision = await self._authorizer.decide_base(
            exchange.head.get("authorization"), exchange.peer
        )
        self._check(exchange, decision, "")

    async def admit_catalog(self, exchange: Exchange) -> tuple[Repository, ...]:
        """The repositories that the client may see.

        Raises:
            RefusedError: nobody has said who it is.
        """
        decision = await self._authorizer.decide_catalog(
            exchange.head.get("authorization"), exchange.peer
        )
        self._check(exchange, decision, "registry:catalog:*")
        everything = await self._metadata.list_repositories()
        return await self._authorizer.visible(decision.principal, everything)

    async def may_pull(
        self, exchange: Exchange, name: str, repository: Repository, *, asked_for: bool
    ) -> bool:
        """Whether the client may pull NAME of another repository, too (a mount reveals nothing).

        Args:
            asked_for: the client has named it.

        Raises:
            RefusedError: it may, but its token is for the target alone: it is told to ask for one that is for both.
        """
        decision = await self._authorizer.decide(
            exchange.head.get("authorization"), exchange.peer, PULL, repository, name
        )
        if asked_for and decision.outcome is Outcome.CHALLENGE and decision.principal.is_known:
            target = scope_of(PUSH, exchange.route.name)
            self._check(exchange, decision, f"{target} {scope_of(PULL, name)}")
        return decision.allowed

    async def _ask(
        self, exchange: Exchange, permission: str, repository: Repository | None
    ) -> Decision:
        name = exchange.route.name
        decision = await self._authorizer.decide(
            exchange.head.get("authorization"), exchange.peer, permission, repository, name
        )
        self._check(exchange, decision, scope_of(permission, name))
        return decision

    def _check(self, exchange: Exchange, decision: Decision, scope: str) -> None:
        exchange.set_actor(str(decision.principal))
        match decision.outcome:
            case Outcome.ALLOWED:
                return
            case Outcome.DENIED:
                raise RefusedError("DENIED", decision.reason, "")
            case Outcome.CHALLENGE:
                scheme, _, host = exchange.origin.partition("://")
                raise RefusedError(
                    "UNAUTHORIZED",
                    decision.reason or "say who you are",
                    challenge(decision, scheme=scheme, host=host, scope=scope),
                )

    async def _make(self, exchange: Exchange, permission: str, name: ImageName) -> Repository:
        # No session is where nothing is.
        if permission != PUSH or exchange.route.kind is Kind.UPLOAD:
            raise _name_unknown(exchange)
        await self._ask(exchange, CREATE_ON_PUSH, None)
        try:
            return await self._metadata.create_repository(
                Repository(project=name.project, location=DEFAULT_LOCATION, name=name.repository),
                exchange.actor,
            )
        except ResourceError as error:
            # Another push was first, or the name is one that no repository can have.
            found = await self._metadata.find_repository(name.project, name.repository)
            if found is None:
                raise RegistryError("NAME_INVALID", error.what) from error
            return found

    def _remember(self, exchange: Exchange, decision: Decision, generation: int) -> None:
        left_s = min(decision.expires_at - time.time(), _DEFAULT_TTL_S)
        self._fast.learn_grant(
            generation,
            exchange.head.get("authorization"),
            owner=exchange.peer.owner,
            name=exchange.route.name,
            grant=Grant(exchange.actor, time.monotonic() + left_s),
        )


def _name_unknown(exchange: Exchange) -> RegistryError:
    name = exchange.name
    return RegistryError(
        "NAME_UNKNOWN",
        f"there is no repository {name.project}/{name.repository}",
        {"name": exchange.route.name},
    )
