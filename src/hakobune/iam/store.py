"""Everything that IAM keeps, in one place, and the question it is all for: may this principal do that there?"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from hakobune.iam.account_store import AccountStore
from hakobune.iam.changes import Desk
from hakobune.iam.errors import InvalidRequestError, UnknownResourceError
from hakobune.iam.group_store import GroupStore
from hakobune.iam.key_store import KeyStore
from hakobune.iam.login_store import LoginStore
from hakobune.iam.master_key import MasterKey
from hakobune.iam.member import identities
from hakobune.iam.policy import Verdict, decide
from hakobune.iam.policy_store import PolicyStore
from hakobune.iam.principal import Principal, PrincipalKind, is_agent
from hakobune.iam.resource import chain
from hakobune.iam.signing_keys import LONGEST_TOKEN_S, SigningKeys
from hakobune.iam.token import Access, Token, TokenUse
from hakobune.state.sql import Sql, Transaction

SHORTEST_TOKEN_S = 60
DEFAULT_TOKEN_S = 3600


class IamStore:
    """One process's view of the rights of an installation. Caches nothing but the signing keys."""

    def __init__(
        self,
        sql: Sql,
        *,
        master: MasterKey,
        changed: Callable[[], None],
        clock: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        """
        Args:
            changed: called after each commit that changes rights.
            clock: microseconds since 1970.
            monotonic: seconds, for how long something has been in memory.
        """
        self._desk = Desk(sql, changed=changed, clock=clock)
        self.policies = PolicyStore(self._desk)
        self.accounts = AccountStore(self._desk)
        self.keys = KeyStore(self._desk)
        self.groups = GroupStore(self._desk)
        self.logins = LoginStore(self._desk)
        self.signing_keys = SigningKeys(self._desk, master, monotonic=monotonic)
        self._revision = -1

    @property
    def now_s(self) -> int:
        """Seconds since 1970."""
        return self._desk.now() // 1_000_000

    async def refresh(self) -> int:
        """Forget signing keys that may have been revoked, if rights have changed.

        Returns a number that changes with every change of rights: whoever caches decisions compares it.
        """
        revision = await self._desk.revision()
        if revision != self._revision:
            self.signing_keys.forget()
            self._revision = revision
        return revision

    async def check(self, principal: Principal, permission: str, resource: str) -> Verdict:
        """Whether *principal* has *permission* on *resource*, by its policy or one above it."""
        if principal.kind is PrincipalKind.OWNER:
            return decide(principal, frozenset(), permission, ())
        groups = await self.groups.groups_of(principal.email) if principal.email else frozenset()
        policies = await self.policies.chain(chain(resource))
        return decide(principal, identities(principal, groups), permission, policies)

    async def is_living(self, principal: Principal) -> bool:
        """Whether a principal may do anything at all: its account exists and is not disabled."""
        if principal.kind is not PrincipalKind.SERVICE_ACCOUNT or is_agent(principal.email):
            return True
        account = await self.accounts.find(principal.email)
        return account is not None and not account.disabled

    async def issue_access_token(
        self, principal: Principal, *, lifetime_s: int = DEFAULT_TOKEN_S, actor: str = ""
    ) -> tuple[str, int]:
        """An access token of *principal* and when it expires (seconds since 1970).

        Args:
            actor: who gets the token, if it is somebody else: that is in the audit trail.

        Raises:
            InvalidRequestError: it would live for less than a minute or more than twelve hours.
            UnknownResourceError: the service account does not exist or is disabled.
        """
        if not SHORTEST_TOKEN_S <= lifetime_s <= LONGEST_TOKEN_S:
            raise InvalidRequestError(
                f"lifetime: a token cannot live for {lifetime_s} s",
                why=f"a token lives for {SHORTEST_TOKEN_S} to {LONGEST_TOKEN_S} seconds",
            )
        if not await self.is_living(principal):
            raise UnknownResourceError(
                f"service account {principal.email} does not exist, or is disabled"
            )
        now = self.now_s
        token = Token(
            principal=principal,
            use=TokenUse.ACCESS,
            issued_at=now,
            expires_at=now + lifetime_s,
            id=secrets.token_hex(8),
        )
        if actor not in ("", str(principal)):
            await self._note_token(principal, actor, lifetime_s)
        return await self.signing_keys.sign(token), token.expires_at

    async def _note_token(self, principal: Principal, actor: str, lifetime_s: int) -> None:
        async def work(transaction: Transaction) -> None:
            await self._desk.note(
                transaction,
                actor=actor,
                verb="token.issue",
                resource=str(principal),
                detail=f"{lifetime_s}s",
            )

        await self._desk.sql.transact(work)

    async def issue_registry_token(
        self, principal: Principal, access: tuple[Access, ...], *, audience: str, expires_at: int
    ) -> str:
        """A token of *principal* that is good for *access* at *audience* alone."""
        token = Token(
            principal=principal,
            use=TokenUse.REGISTRY,
            issued_at=self.now_s,
            expires_at=expires_at,
            audience=audience,
            access=access,
            id=secrets.token_hex(8),
        )
        return await self.signing_keys.sign(token)
