"""From what a client sends to who it is: access tokens, keys of service accounts, the owner's token.

Basic has the user names that Artifact Registry knows: `oauth2accesstoken` (and two older words) with an access token,
`_json_key` and `_json_key_base64` with a key file.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from hakobune.iam.errors import BadCredentialsError
from hakobune.iam.key_store import AccountKey
from hakobune.iam.keys import (
    GOOGLE_TOKEN_URI,
    KEY_FILE_LIMIT,
    Assertion,
    is_assertion,
    is_same_key,
    read_key_file,
    signer_of,
    verify_assertion,
)
from hakobune.iam.owner_token import OWNER_TOKEN_PREFIX
from hakobune.iam.principal import ANONYMOUS, OWNER, Principal, service_account
from hakobune.iam.store import IamStore
from hakobune.iam.token import Token, TokenUse

TOKEN_USERS: Final = ("oauth2accesstoken", "_token", "_dcgcloud_token")
KEY_USER: Final = "_json_key"
KEY_BASE64_USER: Final = "_json_key_base64"
HEADER_LIMIT: Final = 48 * 1024
_LONG_LIVED_S: Final = 300  # how long to believe what has no end of its own, or can be taken back


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, until when that is known, and what the call is bound to.

    Attributes:
        expires_at: how long this need not be asked again (seconds since 1970).
        ends_at: when what was sent expires; infinite for a key and the owner's token.
        token: the registry token that was sent; None for everything that is the principal itself.
        key_id: the account's key that was sent whole.
    """

    principal: Principal
    expires_at: float
    token: Token | None = None
    key_id: str = ""
    ends_at: float = float("inf")


NOBODY: Final = Identity(ANONYMOUS, float("inf"))


class Authenticator:
    """Checks credentials against the store. Every refusal is a `BadCredentialsError` that repeats nothing sent."""

    def __init__(self, iam: IamStore, *, owner_token: Callable[[], str | None]) -> None:
        """
        Args:
            owner_token: the installation's token as it is on disk now; None if there is none.
        """
        self._iam = iam
        self._owner_token = owner_token

    async def header(self, authorization: str | None) -> Identity:
        """The identity of an `Authorization` header; nobody if there is none.

        Raises:
            BadCredentialsError: the header is malformed, or proves nothing.
        """
        if authorization is None:
            return NOBODY
        if len(authorization) > HEADER_LIMIT:
            raise BadCredentialsError("the Authorization header is too long")
        scheme, _, value = authorization.partition(" ")
        match scheme.lower():
            case "bearer":
                return await self.bearer(value.strip())
            case "basic":
                return await self.basic(*read_basic(value.strip()))
            case _:
                raise BadCredentialsError("the Authorization is neither Bearer nor Basic")

    async def bearer(self, text: str) -> Identity:
        """The identity of a token: the owner's, one of ours, or an account's own signed JWT.

        Raises:
            BadCredentialsError: it is none of these, or has expired.
        """
        if text.startswith(OWNER_TOKEN_PREFIX):
            return self._owner(text)
        if is_assertion(text):
            assertion, key = await self._prove(text)
            if not _is_for_an_api(assertion):
                raise BadCredentialsError("the assertion is meant for somebody else")
            return await self._living(
                Identity(
                    service_account(key.email),
                    self._soon(assertion.expires_at),
                    ends_at=assertion.expires_at,
                )
            )
        await self._iam.refresh()
        token = await self._iam.signing_keys.verify(text)
        bound = token if token.use is TokenUse.REGISTRY else None
        return await self._living(
            Identity(token.principal, token.expires_at, bound, ends_at=token.expires_at)
        )

    async def basic(self, user: str, password: str) -> Identity:
        """The identity of a user name and password.

        Raises:
            BadCredentialsError: they prove nothing.
        """
        if user in TOKEN_USERS:
            identity = await self.bearer(password)
            if identity.token is not None:
                raise BadCredentialsError("a registry token is no password")
            return identity
        if user == KEY_USER:
            return await self._key(password)
        if user == KEY_BASE64_USER:
            return await self._key(_decode_key(password))
        raise BadCredentialsError(
            "the user name is unknown",
            fix=f"the user is {TOKEN_USERS[0]} with an access token, or {KEY_USER} with a key file",
        )

    async def assertion(self, text: str, *, audiences: Collection[str]) -> Identity:
        """The account that asks for an access token (RFC 7523).

        Args:
            audiences: the URLs of our token endpoint.

        Raises:
            BadCredentialsError: the assertion proves nothing, or is meant for somebody else.
        """
        assertion, key = await self._prove(text)
        if assertion.audience not in (*audiences, GOOGLE_TOKEN_URI):
            raise BadCredentialsError("the assertion is meant for somebody else")
        return await self._living(
            Identity(service_account(key.email), assertion.expires_at, key_id=key.id)
        )

    async def login(self, text: str) -> Identity:
        """The account of a login that a client has kept.

        Raises:
            BadCredentialsError: it has ended.
        """
        principal, key_id = await self._iam.logins.use(text)
        key = await self._iam.keys.find(key_id)
        if key is None or not self._is_valid(key):
            raise BadCredentialsError("the login has ended", fix="log in again")
        return await self._living(Identity(principal, self._soon(), key_id=key_id))

    def _owner(self, text: str) -> Identity:
        ours = self._owner_token()
        if not ours or not hmac.compare_digest(text.encode(), ours.encode()):
            raise BadCredentialsError("the access token is not this installation's")
        return Identity(OWNER, self._soon())

    async def _key(self, text: str) -> Identity:
        sent = read_key_file(text)
        key = await self._iam.keys.find(sent.id)
        if (
            key is None
            or not self._is_valid(key)
            or key.email != sent.email
            or not is_same_key(sent, key.private_digest)
        ):
            raise BadCredentialsError("the service account's key is not valid (any more)")
        return await self._living(Identity(service_account(key.email), self._soon(), key_id=key.id))

    async def _prove(self, text: str) -> tuple[Assertion, AccountKey]:
        key_id, email = signer_of(text)
        keys = [await self._iam.keys.find(key_id)] if key_id else await self._iam.keys.list(email)
        for key in keys:
            if key is None or key.email != email or not self._is_valid(key):
                continue
            return verify_assertion(text, key.public_key, now_s=self._iam.now_s), key
        raise BadCredentialsError("the service account's key is not valid (any more)")

    def _is_valid(self, key: AccountKey) -> bool:
        return not key.disabled and key.expires_at > self._iam.now_s * 1_000_000

    async def _living(self, identity: Identity) -> Identity:
        if not await self._iam.is_living(identity.principal):
            raise BadCredentialsError("the service account is disabled or has been deleted")
        return identity

    def _soon(self, end: float = float("inf")) -> float:
        return min(end, self._iam.now_s + _LONG_LIVED_S)


def read_basic(value: str) -> tuple[str, str]:
    """User and password of a Basic header's value (RFC 7617).

    Raises:
        BadCredentialsError: it is malformed.
    """
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise BadCredentialsError("the Basic credentials are malformed") from error
    user, colon, password = text.partition(":")
    if not colon:
        raise BadCredentialsError("the Basic credentials are malformed")
    return user, password


def _decode_key(password: str) -> str:
    try:
        data = base64.b64decode("".join(password.split()), validate=True)
        return data[:KEY_FILE_LIMIT].decode()
    except (binascii.Error, ValueError) as error:
        raise BadCredentialsError("the password is no service account's key file") from error


def _is_for_an_api(assertion: Assertion) -> bool:
    """A JWT sent as it is names one of Google's APIs (which we stand for), or only scopes of theirs."""
    if not assertion.audience:
        return "https://www.googleapis.com/auth/" in assertion.scope
    if assertion.audience == GOOGLE_TOKEN_URI:
        return False
    host = urlsplit(assertion.audience).hostname or ""
    return host.endswith(".googleapis.com")
