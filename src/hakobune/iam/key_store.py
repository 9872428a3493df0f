"""Keys of service accounts in the database: their public halves, and digests of the private ones."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from hakobune.iam.account_store import Account, account_resource
from hakobune.iam.changes import Desk
from hakobune.iam.errors import InvalidRequestError, UnknownResourceError, UnsuitedStateError
from hakobune.iam.keys import RSA_BITS, is_key_id, key_document, make_key, private_digest
from hakobune.state.sql import Row, Transaction

KEY_LIMIT: Final = 10  # an account, as Google's
_COLUMNS: Final = (
    "id, email, algorithm, public_key, private_digest, disabled, created_at, expires_at"
)
_NEVER: Final = 253402300799 * 1_000_000  # 9999-12-31, as Google says it


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountKey:
    """A key of an account, without its private half. Times are microseconds since 1970."""

    id: str
    email: str
    algorithm: str
    public_key: str
    private_digest: str
    disabled: bool
    created_at: int
    expires_at: int

    @property
    def resource(self) -> str:
        return f"{account_resource(self.email)}/keys/{self.id}"

    def to_document(self) -> dict[str, Any]:
        """Google's `ServiceAccountKey` (IAM v1), without private data."""
        document = {
            "name": self.resource,
            "keyAlgorithm": self.algorithm,
            "keyOrigin": "GOOGLE_PROVIDED",
            "keyType": "USER_MANAGED",
            "validAfterTime": _time(self.created_at),
            "validBeforeTime": _time(self.expires_at),
        }
        return {**document, "disabled": True} if self.disabled else document


class KeyStore:
    """All keys of all accounts."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def create(
        self, account: Account, *, algorithm: str, server: str, actor: str
    ) -> dict[str, Any]:
        """Make a key; the document holds the key file (`privateKeyData`, base64), which is kept nowhere.

        Raises:
            InvalidRequestError: no such algorithm. UnsuitedStateError: the account has ten keys.
        """
        if algorithm not in RSA_BITS:
            raise InvalidRequestError(f"{algorithm!r} is no key algorithm", fix="KEY_ALG_RSA_2048")
        pair = await asyncio.to_thread(make_key, algorithm)
        key = AccountKey(
            id=pair.id,
            email=account.email,
            algorithm=algorithm,
            public_key=pair.public_key,
            private_digest=private_digest(pair.private_key),
            disabled=False,
            created_at=self._desk.now(),
            expires_at=_NEVER,
        )

        async def work(transaction: Transaction) -> None:
            count = await transaction.fetch_row(
                "SELECT COUNT(*) FROM iam_key WHERE email = $1", account.email
            )
            if count and count[0] >= KEY_LIMIT:
                raise UnsuitedStateError(
                    f"{account.email} has {KEY_LIMIT} keys already",
                    fix=f"hako iam service-accounts keys delete KEY --iam-account={account.email}",
                )
            await _insert(transaction, key)
            await self._desk.note(
                transaction, actor=actor, verb="serviceAccountKey.create", resource=key.resource
            )

        await self._desk.change(work)
        file = key_document(
            pair,
            email=account.email,
            project=account.project,
            client_id=account.unique_id,
            server=server,
        )
        data = base64.b64encode(json.dumps(file, indent=2).encode() + b"\n").decode()
        return {
            **key.to_document(),
            "privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE",
            "privateKeyData": data,
        }

    async def find(self, key_id: str) -> AccountKey | None:
        if not is_key_id(key_id):
            return None
        row = await self._desk.sql.fetch_row(
            f"SELECT {_COLUMNS} FROM iam_key WHERE id = $1", key_id
        )
        return None if row is None else _read(row)

    async def list(self, email: str) -> tuple[AccountKey, ...]:
        """The keys of an account, oldest first."""
        rows = await self._desk.sql.fetch(
            f"SELECT {_COLUMNS} FROM iam_key WHERE email = $1 ORDER BY created_at, id", email
        )
        return tuple(map(_read, rows))

    async def get(self, email: str, key_id: str) -> AccountKey:
        """That key of that account.

        Raises:
            UnknownResourceError: it has none of that id.
        """
        key = await self.find(key_id)
        if key is None or key.email != email:
            raise _unknown(email, key_id)
        return key

    async def set_disabled(self, email: str, key_id: str, *, disabled: bool, actor: str) -> None:
        """Refuse a key from now on, or accept it again.

        Raises:
            UnknownResourceError: the account has no such key.
        """

        if not is_key_id(key_id):
            raise _unknown(email, key_id)

        async def work(transaction: Transaction) -> None:
            changed = await transaction.execute(
                "UPDATE iam_key SET disabled = $1 WHERE id = $2 AND email = $3",
                int(disabled),
                key_id,
                email,
            )
            if not changed:
                raise _unknown(email, key_id)
            await self._note(transaction, "disable" if disabled else "enable", email, key_id, actor)

        await self._desk.change(work)

    async def delete(self, email: str, key_id: str, *, actor: str) -> None:
        """Delete a key and the docker logins made with it; access tokens got with it live out their hour.

        Raises:
            UnknownResourceError: the account has no such key.
        """

        if not is_key_id(key_id):
            raise _unknown(email, key_id)

        async def work(transaction: Transaction) -> None:
            gone = await transaction.execute(
                "DELETE FROM iam_key WHERE id = $1 AND email = $2", key_id, email
            )
            if not gone:
                raise _unknown(email, key_id)
            await transaction.execute("DELETE FROM iam_login WHERE key_id = $1", key_id)
            await self._note(transaction, "delete", email, key_id, actor)

        await self._desk.change(work)

    async def _note(
        self, transaction: Transaction, verb: str, email: str, key_id: str, actor: str
    ) -> None:
        await self._desk.note(
            transaction,
            actor=actor,
            verb=f"serviceAccountKey.{verb}",
            resource=f"{account_resource(email)}/keys/{key_id}",
        )


async def _insert(transaction: Transaction, key: AccountKey) -> None:
    await transaction.execute(
        f"INSERT INTO iam_key ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        key.id,
        key.email,
        key.algorithm,
        key.public_key,
        key.private_digest,
        int(key.disabled),
        key.created_at,
        key.expires_at,
    )


def _read(row: Row) -> AccountKey:
    return AccountKey(
        id=row[0],
        email=row[1],
        algorithm=row[2],
        public_key=row[3],
        private_digest=row[4],
        disabled=bool(row[5]),
        created_at=row[6],
        expires_at=row[7],
    )


def _unknown(email: str, key_id: str) -> UnknownResourceError:
    return UnknownResourceError(
        f"{email} has no key {key_id}",
        fix=f"hako iam service-accounts keys list --iam-account={email}",
    )


def _time(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
