"""Logins that clients keep instead of a password (docker's `identitytoken`): bound to the key they were made with.

The database has their digests only. One that is used lives on; one that is not used for half a year ends.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Final

from hakobune.iam.changes import Desk
from hakobune.iam.errors import BadCredentialsError
from hakobune.iam.principal import Principal, parse_principal
from hakobune.state.sql import Transaction

LIFETIME_S: Final = 180 * 24 * 3600
_RENEW_S: Final = 24 * 3600  # used again after a day: one small write
_PREFIX: Final = "hkr-"
_SECOND: Final = 1_000_000


class LoginStore:
    """All logins."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def create(self, principal: Principal, key_id: str) -> str:
        """A new login of a service account by one of its keys; the text is shown once."""
        text = _PREFIX + secrets.token_urlsafe(32)
        now = self._desk.now()

        async def work(transaction: Transaction) -> None:
            await transaction.execute("DELETE FROM iam_login WHERE expires_at < $1", now)
            await transaction.execute(
                "INSERT INTO iam_login (digest, principal, key_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
                _digest(text),
                str(principal),
                key_id,
                now,
                now + LIFETIME_S * _SECOND,
            )

        await self._desk.sql.transact(work)
        return text

    async def use(self, text: str) -> tuple[Principal, str]:
        """Principal and key of a login.

        Raises:
            BadCredentialsError: it is none, has ended, or its key has been deleted.
        """
        digest, now = _digest(text), self._desk.now()
        row = await self._desk.sql.fetch_row(
            "SELECT principal, key_id, expires_at FROM iam_login WHERE digest = $1", digest
        )
        if row is None or row[2] <= now:
            raise BadCredentialsError("the login has ended", fix="log in again")
        if row[2] < now + (LIFETIME_S - _RENEW_S) * _SECOND:
            await self._renew(digest, now)
        return parse_principal(row[0]), row[1]

    async def _renew(self, digest: str, now: int) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute(
                "UPDATE iam_login SET expires_at = $1 WHERE digest = $2",
                now + LIFETIME_S * _SECOND,
                digest,
            )

        await self._desk.sql.transact(work, durable=False)


def _digest(text: str) -> str:
    """Enough for 256 random bits: nobody guesses them, so no slow hash is needed."""
    return sha256(text.encode()).hexdigest()
