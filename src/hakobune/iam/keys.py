"""Keys of service accounts as files and as proofs: RSA pairs in Google's JSON format (`google-auth` reads it unmodified).

A whole key sent as a password (`_json_key`) is proved by the digest of its private half, with the standard library; only a
signed assertion (RFC 7523) needs `cryptography`, imported then.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeGuard

from hakobune.iam.errors import BadCredentialsError
from hakobune.iam.principal import is_service_account_email
from hakobune.iam.token import read_parts

RSA_BITS: Final = {"KEY_ALG_RSA_2048": 2048}
# The audience that google-auth's tokens have, whatever token_uri says.
GOOGLE_TOKEN_URI: Final = "https://oauth2.googleapis.com/token"
KEY_FILE_LIMIT: Final = 16 * 1024
_KEY_ID: Final = re.compile(r"[0-9a-f]{1,64}")
_SKEW_S: Final = 60
_LONGEST_ASSERTION_S: Final = 3600


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A new key. `repr` does not show the private half."""

    id: str
    private_key: str  # PEM, PKCS #8
    public_key: str  # PEM

    def __repr__(self) -> str:
        return f"KeyPair({self.id!r})"


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a signed JWT of an account says, proved."""

    email: str
    audience: str
    scope: str
    expires_at: int  # seconds since 1970


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The parts of a key file that prove who has it. `repr` does not show the digest."""

    id: str
    email: str
    private_digest: str

    def __repr__(self) -> str:
        return f"KeyFile({self.id!r}, {self.email!r})"


def make_key(algorithm: str) -> KeyPair:
    """A new RSA pair of *algorithm*, a key of `RSA_BITS`. Takes tens of milliseconds of CPU, sometimes hundreds."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS[algorithm])
    return KeyPair(
        secrets.token_hex(20),
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


def key_document(
    pair: KeyPair, *, email: str, project: str, client_id: str, server: str
) -> dict[str, str]:
    """The key file's content.

    Args:
        server: this installation's URL, where tokens are got.
    """
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": pair.id,
        "private_key": pair.private_key,
        "client_email": email,
        "client_id": client_id,
        "auth_uri": f"{server}/o/oauth2/auth",
        "token_uri": f"{server}/token",
        "universe_domain": "googleapis.com",
    }


def private_digest(pem: str) -> str:
    """What is kept of a private key: enough to know it again, nothing to make it from.

    Raises:
        BadCredentialsError: the text is no PEM.
    """
    lines = [line.strip() for line in pem.strip().splitlines()]
    if (
        len(lines) < 3
        or not lines[0].startswith("-----BEGIN")
        or not lines[-1].startswith("-----END")
    ):
        raise BadCredentialsError("the key is no service account's key file")
    try:
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadCredentialsError("the key is no service account's key file") from error
    return sha256(der).hexdigest()


def read_key_file(text: str) -> KeyFile:
    """A key file sent as a password.

    Raises:
        BadCredentialsError: it is none.
    """
    try:
        document = json.loads(text) if len(text) <= KEY_FILE_LIMIT else None
    except (ValueError, RecursionError):
        document = None
    fields = ("private_key_id", "client_email", "private_key")
    if not isinstance(document, dict) or not all(isinstance(document.get(f), str) for f in fields):
        raise BadCredentialsError("the password is no service account's key file")
    identifier, email = document["private_key_id"], document["client_email"].lower()
    if not is_key_id(identifier) or not is_service_account_email(email):
        raise BadCredentialsError("the password is no key file of this installation")
    return KeyFile(identifier, email, private_digest(document["private_key"]))


def is_same_key(sent: KeyFile, kept_digest: str) -> bool:
    """Whether the key that was sent is the one of which that digest was kept; takes as long either way."""
    return hmac.compare_digest(sent.private_digest, kept_digest)


def is_key_id(text: str) -> bool:
    """Whether a key can have that id."""
    return _KEY_ID.fullmatch(text) is not None


def is_assertion(text: str) -> bool:
    """Whether *text* looks like a JWT that an account has signed itself."""
    try:
        return read_parts(text)[0].get("alg") == "RS256"
    except BadCredentialsError:
        return False


def signer_of(text: str) -> tuple[str, str]:
    """Key id (may be empty) and address that an assertion claims, unproved.

    Raises:
        BadCredentialsError: it is no assertion.
    """
    header, claims, _, _ = read_parts(text)
    email, identifier = claims.get("iss"), header.get("kid") or ""
    if (
        header.get("alg") != "RS256"
        or not isinstance(email, str)
        or not is_service_account_email(email.lower())
        or not isinstance(identifier, str)
        or not (identifier == "" or is_key_id(identifier))
    ):
        raise BadCredentialsError("the assertion is no service account's")
    return identifier, email.lower()


def verify_assertion(text: str, public_key: str, *, now_s: float) -> Assertion:
    """What an assertion says, if the account's key signed it and it is valid at *now_s*.

    Raises:
        BadCredentialsError: altered, expired, or valid for longer than an hour.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    _, claims, body, signature = read_parts(text)
    key = load_pem_public_key(public_key.encode())
    assert isinstance(key, rsa.RSAPublicKey)  # we made it
    try:
        key.verify(signature, body.encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise BadCredentialsError("the assertion was not signed with that key") from error
    return _read_assertion(claims, now_s)


def _read_assertion(claims: Mapping[str, Any], now_s: float) -> Assertion:
    issued, expires = claims.get("iat"), claims.get("exp")
    if not _is_time(issued) or not _is_time(expires):
        raise BadCredentialsError("the assertion says no times")
    if expires <= now_s - _SKEW_S or issued > now_s + _SKEW_S:
        raise BadCredentialsError("the assertion has expired, or is not valid yet")
    if expires - issued > _LONGEST_ASSERTION_S + _SKEW_S:
        raise BadCredentialsError("the assertion is valid for longer than an hour")
    if claims.get("sub") not in (None, claims["iss"]):
        raise BadCredentialsError("a service account cannot speak for somebody else")
    audience, scope = claims.get("aud"), claims.get("scope")
    return Assertion(
        str(claims["iss"]).lower(),
        audience if isinstance(audience, str) else "",
        scope if isinstance(scope, str) else "",
        int(expires),
    )


def _is_time(value: object) -> TypeGuard[int | float]:
    """Whether it is a number of seconds; JSON as Python reads it has infinities, too."""
    return isinstance(value, (int, float)) and -1e12 < value < 1e12
