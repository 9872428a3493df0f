"""Service accounts in the database."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any, Final

from hakobune.iam.changes import Desk
from hakobune.iam.errors import InvalidRequestError, NameTakenError, UnknownResourceError
from hakobune.iam.member import deleted_member
from hakobune.iam.policy_store import drop_policy, replace_member
from hakobune.iam.principal import account_email, project_of_account
from hakobune.state.sql import Row, Transaction

ACCOUNT_LIMIT: Final = 1000  # a project
TEXT_LIMITS: Final = {"displayName": 100, "description": 256}
_COLUMNS: Final = "email, project, unique_id, display_name, description, disabled, created_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A service account of a project. Times are microseconds since 1970."""

    email: str
    project: str
    unique_id: str
    display_name: str = ""
    description: str = ""
    disabled: bool = False
    created_at: int

    @property
    def resource(self) -> str:
        return account_resource(self.email)

    def to_document(self) -> dict[str, Any]:
        """Google's `ServiceAccount` (IAM v1)."""
        document = {
            "name": self.resource,
            "projectId": self.project,
            "uniqueId": self.unique_id,
            "email": self.email,
            "displayName": self.display_name,
            "description": self.description,
            "oauth2ClientId": self.unique_id,
            "disabled": self.disabled,
            "etag": "MDEwMjE5MjA=",
        }
        return {key: value for key, value in document.items() if value not in ("", False)}


def account_resource(email: str) -> str:
    """The resource name of an account, or of an address that could be one's."""
    return f"projects/{project_of_account(email) or '-'}/serviceAccounts/{email}"


class AccountStore:
    """All service accounts but the agents, which exist by themselves."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def create(
        self, project: str, account_id: str, *, display_name: str, description: str, actor: str
    ) -> Account:
        """Make an account.

        Raises:
            InvalidRequestError: the name cannot be one, or a text is too long. NameTakenError: it is taken.
        """
        _check_text("displayName", display_name)
        _check_text("description", description)
        account = Account(
            email=account_email(account_id, project),
            project=project,
            unique_id="1" + "".join(secrets.choice("0123456789") for _ in range(20)),
            display_name=display_name,
            description=description,
            created_at=self._desk.now(),
        )

        async def work(transaction: Transaction) -> Account:
            if await _find(transaction, account.email) is not None:
                raise NameTakenError(f"service account {account.email} exists already")
            count = await transaction.fetch_row(
                "SELECT COUNT(*) FROM iam_account WHERE project = $1", project
            )
            if count and count[0] >= ACCOUNT_LIMIT:
                raise InvalidRequestError(f"a project has at most {ACCOUNT_LIMIT} service accounts")
            await _insert(transaction, account)
            await self._desk.note(
                transaction, actor=actor, verb="serviceAccount.create", resource=account.resource
            )
            return account

        return await self._desk.change(work)

    async def find(self, email: str) -> Account | None:
        row = await self._desk.sql.fetch_row(
            f"SELECT {_COLUMNS} FROM iam_account WHERE email = $1", email
        )
        return None if row is None else _read(row)

    async def get(self, email: str) -> Account:
        """The account of that address.

        Raises:
            UnknownResourceError: there is none.
        """
        account = await self.find(email)
        if account is None:
            raise unknown_account(email)
        return account

    async def list(self, project: str, *, limit: int, after: str = "") -> tuple[Account, ...]:
        """At most *limit* accounts of a project whose addresses come after *after*, sorted by it."""
        rows = await self._desk.sql.fetch(
            f"SELECT {_COLUMNS} FROM iam_account WHERE project = $1 AND email > $2 ORDER BY email LIMIT {limit:d}",
            project,
            after,
        )
        return tuple(map(_read, rows))

    async def update(
        self,
        email: str,
        *,
        display_name: str | None = None,
        description: str | None = None,
        disabled: bool | None = None,
        actor: str,
    ) -> Account:
        """Change what is not `None`. A disabled account's keys and tokens are refused from then on.

        Raises:
            UnknownResourceError: there is none. InvalidRequestError: a text is too long.
        """
        _check_text("displayName", display_name or "")
        _check_text("description", description or "")

        async def work(transaction: Transaction) -> Account:
            account = await _find(transaction, email)
            if account is None:
                raise unknown_account(email)
            changed = replace(
                account,
                display_name=account.display_name if display_name is None else display_name,
                description=account.description if description is None else description,
                disabled=account.disabled if disabled is None else disabled,
            )
            await transaction.execute("DELETE FROM iam_account WHERE email = $1", email)
            await _insert(transaction, changed)
            await self._desk.note(
                transaction,
                actor=actor,
                verb="serviceAccount.update",
                resource=account.resource,
                detail="" if disabled is None else f"disabled={disabled}",
            )
            return changed

        return await self._desk.change(work)

    async def delete(self, email: str, *, actor: str) -> None:
        """Delete an account with its keys and logins; in policies it stands as deleted from then on.

        Raises:
            UnknownResourceError: there is none.
        """

        async def work(transaction: Transaction) -> None:
            account = await _find(transaction, email)
            if account is None:
                raise unknown_account(email)
            member = f"serviceAccount:{email}"
            await replace_member(transaction, member, deleted_member(member, account.unique_id))
            await drop_policy(transaction, account.resource)
            for statement in (
                "DELETE FROM iam_group_member WHERE member = $1",
                "DELETE FROM iam_key WHERE email = $1",
                "DELETE FROM iam_account WHERE email = $1",
            ):
                await transaction.execute(statement, email)
            await transaction.execute("DELETE FROM iam_login WHERE principal = $1", member)
            await self._desk.note(
                transaction, actor=actor, verb="serviceAccount.delete", resource=account.resource
            )

        await self._desk.change(work)


def unknown_account(email: str) -> UnknownResourceError:
    """The error for an address that is no account's."""
    return UnknownResourceError(
        f"service account {email} does not exist", fix="hako iam service-accounts list"
    )


async def _find(transaction: Transaction, email: str) -> Account | None:
    row = await transaction.fetch_row(f"SELECT {_COLUMNS} FROM iam_account WHERE email = $1", email)
    return None if row is None else _read(row)


async def _insert(transaction: Transaction, account: Account) -> None:
    await transaction.execute(
        f"INSERT INTO iam_account ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        account.email,
        account.project,
        account.unique_id,
        account.display_name,
        account.description,
        int(account.disabled),
        account.created_at,
    )


def _read(row: Row) -> Account:
    return Account(
        email=row[0],
        project=row[1],
        unique_id=row[2],
        display_name=row[3],
        description=row[4],
        disabled=bool(row[5]),
        created_at=row[6],
    )


def _check_text(field: str, text: str) -> None:
    if len(text.encode()) > TEXT_LIMITS[field]:
        raise InvalidRequestError(f"{field} is longer than {TEXT_LIMITS[field]} bytes")
