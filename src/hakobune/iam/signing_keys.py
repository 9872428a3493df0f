"""The ring of keys that sign tokens: one signs, older ones still prove what they have signed, all follow from the master key.

A new key comes by itself after a month, or when asked; every process learns of it the first time it meets a token of it, so
nothing is started again. A retired key goes when the last token that it can have signed has expired.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Final

from hakobune.iam.changes import Desk
from hakobune.iam.master_key import MasterKey
from hakobune.iam.token import SigningKey, Token, key_id_of, sign, verify
from hakobune.state.sql import Transaction

ROTATE_AFTER_S: Final = 30 * 24 * 3600
LONGEST_TOKEN_S: Final = 12 * 3600
_READ_AT_MOST_EVERY_S: Final = 1.0  # tokens with made-up key ids must not become a query each
_SECOND: Final = 1_000_000


class SigningKeys:
    """The ring of one process, read from the database when it has to be."""

    def __init__(self, desk: Desk, master: MasterKey, *, monotonic: Callable[[], float]) -> None:
        self._desk = desk
        self._master = master
        self._monotonic = monotonic
        self._keys: Mapping[str, SigningKey] = {}
        self._signer = ""
        self._signer_since_s = 0
        self._read_at = float("-inf")

    async def sign(self, token: Token) -> str:
        """Sign with the newest key; make one if the newest is old or there is none."""
        now_s = self._desk.now() // _SECOND
        if self._monotonic() - self._read_at > 60:
            await self._read()  # another process may have rotated
        if not self._signer or self._signer_since_s + ROTATE_AFTER_S <= now_s:
            await self._rotate(only_if_signer_is=self._signer)
        return sign(token, self._keys[self._signer])

    async def verify(self, text: str) -> Token:
        """The claims of a token of ours.

        Raises:
            BadCredentialsError: it is not ours, altered or expired.
        """
        unknown = key_id_of(text) not in self._keys
        if unknown and self._monotonic() - self._read_at >= _READ_AT_MOST_EVERY_S:
            await self._read()
        return verify(text, self._keys, now_s=self._desk.now() / _SECOND)

    async def rotate(self, *, actor: str, revoke: bool = False) -> None:
        """Sign with a new key from now on.

        Args:
            revoke: also forget all older keys, so that every token given out so far is refused at once.
        """
        await self._rotate(actor=actor, revoke=revoke)

    def forget(self) -> None:
        """Read the ring again before the next token: rights have changed, so keys may have been revoked."""
        self._keys, self._signer, self._read_at = {}, "", float("-inf")

    async def _read(self) -> None:
        rows = await self._desk.sql.fetch(
            "SELECT id, salt, created_at, retired_at FROM iam_signing_key ORDER BY created_at, id"
        )
        self._keys = {
            row[0]: SigningKey(row[0], self._master.derive("sign tokens", bytes(row[1])))
            for row in rows
        }
        living = [row for row in rows if not row[3]]
        self._signer = living[-1][0] if living else ""
        self._signer_since_s = living[-1][2] // _SECOND if living else 0
        self._read_at = self._monotonic()

    async def _rotate(
        self, *, only_if_signer_is: str | None = None, actor: str = "", revoke: bool = False
    ) -> None:
        now = self._desk.now()
        identifier, salt = secrets.token_hex(8), secrets.token_bytes(32)

        async def work(transaction: Transaction) -> None:
            living = await transaction.fetch_row(
                "SELECT id FROM iam_signing_key WHERE retired_at = 0 ORDER BY created_at DESC, id DESC LIMIT 1"
            )
            if only_if_signer_is is not None and (living or ("",))[0] != only_if_signer_is:
                return  # another process was first
            if revoke:
                await transaction.execute("DELETE FROM iam_signing_key")
            await transaction.execute(
                "DELETE FROM iam_signing_key WHERE retired_at > 0 AND retired_at < $1",
                now - LONGEST_TOKEN_S * _SECOND,
            )
            await transaction.execute(
                "UPDATE iam_signing_key SET retired_at = $1 WHERE retired_at = 0", now
            )
            await transaction.execute(
                "INSERT INTO iam_signing_key (id, salt, created_at, retired_at) VALUES ($1, $2, $3, 0)",
                identifier,
                salt,
                now,
            )
            await self._desk.note(
                transaction,
                actor=actor or "hakobune",
                verb="signingKeys.rotate",
                resource="signingKeys",
                detail="revoked all tokens" if revoke else "",
            )

        if revoke:
            await self._desk.change(work)
        else:
            await self._desk.sql.transact(work)
        await self._read()
