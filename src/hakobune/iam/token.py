"""Tokens signed by this installation: JSON Web Tokens (RFC 7519), HS256, by the standard library alone.

An *access token* is its principal; a *registry token* is bound to an audience and a list of accesses besides.
Neither carries rights: they follow from the policies at the time of use. Which keys there are, and when they change, is
`signing_keys`; here they are values.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from hakobune.iam.errors import BadCredentialsError, InvalidRequestError
from hakobune.iam.principal import Principal, parse_principal

ISSUER: Final = "hakobune"
TOKEN_LIMIT: Final = 16 * 1024  # characters; longer ones are not looked at
_LEEWAY_S: Final = 5


class TokenUse(StrEnum):
    """What a token is good for: everything its principal may do, or the registry's accesses it lists."""

    ACCESS = "access"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class Access:
    """What a registry token may be used for (distribution's token specification, "access")."""

    type: str
    name: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The claims of a valid token. Times are seconds since 1970."""

    principal: Principal
    use: TokenUse
    issued_at: int
    expires_at: int
    audience: str = ""
    access: tuple[Access, ...] = ()
    id: str = ""

    def allows(self, type_: str, name: str, action: str) -> bool:
        """Whether the token may be used for this; what its principal may do is asked elsewhere."""
        if self.use is TokenUse.ACCESS:
            return True
        return any(
            a.type == type_ and a.name == name and (action in a.actions or "*" in a.actions)
            for a in self.access
        )


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs tokens, and proves those that it signed. `repr` does not show it."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.id!r})"


def sign(token: Token, key: SigningKey) -> str:
    """The token as text."""
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "sub": str(token.principal),
        "use": str(token.use),
        "iat": token.issued_at,
        "nbf": token.issued_at,
        "exp": token.expires_at,
        "jti": token.id,
    }
    if token.use is TokenUse.REGISTRY:
        claims["aud"] = token.audience
        claims["access"] = [
            {"type": a.type, "name": a.name, "actions": list(a.actions)} for a in token.access
        ]
    body = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': key.id})}.{_part(claims)}"
    return f"{body}.{_encode(_signature(body, key))}"


def verify(text: str, keys: Mapping[str, SigningKey], *, now_s: float) -> Token:
    """The claims of *text*, if one of *keys* signed it and it is valid at *now_s*.

    Raises:
        BadCredentialsError: it is not ours, altered or expired.
    """
    header, claims, body, signature = read_parts(text)
    key = keys.get(str(header.get("kid")))
    if header.get("alg") != "HS256" or key is None:
        raise BadCredentialsError("the token was not made by this installation, or long ago")
    if not hmac.compare_digest(_signature(body, key), signature):
        raise BadCredentialsError("the token has been altered")
    token = _read_claims(claims)
    if token.expires_at <= now_s:
        raise BadCredentialsError("the token has expired")
    if token.issued_at > now_s + _LEEWAY_S:
        raise BadCredentialsError("the token is not valid yet")
    return token


def key_id_of(text: str) -> str:
    """The key that a token says it was signed with; empty if it is no token. Nothing is proved by that."""
    try:
        return str(read_parts(text)[0].get("kid", ""))
    except BadCredentialsError:
        return ""


def read_parts(text: str) -> tuple[dict[str, Any], dict[str, Any], str, bytes]:
    """Header, claims, signed text and signature of any JWT, unproved.

    Raises:
        BadCredentialsError: it is none.
    """
    if len(text) > TOKEN_LIMIT or text.count(".") != 2:
        raise BadCredentialsError("the token is none of ours")
    body, _, signature = text.rpartition(".")
    head, _, claims = body.partition(".")
    try:
        parts = [json.loads(_decode(part)) for part in (head, claims)]
        proof = _decode(signature)
    except (ValueError, RecursionError) as error:
        raise BadCredentialsError("the token is none of ours") from error
    if not all(isinstance(part, dict) for part in parts):
        raise BadCredentialsError("the token is none of ours")
    return parts[0], parts[1], body, proof


def _read_claims(claims: Mapping[str, Any]) -> Token:
    """What we have signed is well-formed, unless another program has our key."""
    try:
        return Token(
            principal=parse_principal(claims["sub"]),
            use=TokenUse(claims["use"]),
            issued_at=int(claims["iat"]),
            expires_at=int(claims["exp"]),
            audience=str(claims.get("aud", "")),
            access=tuple(_read_access(claims.get("access", ()))),
            id=str(claims.get("jti", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, InvalidRequestError) as error:
        raise BadCredentialsError("the token is none of ours") from error


def _read_access(entries: Sequence[Mapping[str, Any]]) -> Iterable[Access]:
    for entry in entries:
        yield Access(entry["type"], entry["name"], tuple(entry["actions"]))


def _signature(body: str, key: SigningKey) -> bytes:
    return hmac.digest(key.secret, body.encode(), hashlib.sha256)


def _part(document: Mapping[str, Any]) -> str:
    return _encode(json.dumps(document, separators=(",", ":")).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(
            text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
        )
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error
