"""Groups of users, service accounts and other groups, in the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hakobune.iam.changes import Desk
from hakobune.iam.errors import InvalidRequestError, NameTakenError, UnknownResourceError
from hakobune.iam.policy_store import replace_member
from hakobune.iam.principal import is_email, is_service_account_email
from hakobune.state.sql import Row, Transaction

_COLUMNS: Final = "email, display_name, description, created_at"

# The groups of a member, and the groups that these are in.
_GROUPS_OF: Final = """
    WITH RECURSIVE found(email) AS (
        SELECT group_email FROM iam_group_member WHERE member = $1
        UNION
        SELECT above.group_email FROM iam_group_member above JOIN found ON above.member = found.email
    )
    SELECT email FROM found
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group under its address. `created_at` is in microseconds since 1970."""

    email: str
    display_name: str = ""
    description: str = ""
    created_at: int

    @property
    def resource(self) -> str:
        return f"groups/{self.email}"


class GroupStore:
    """All groups and their members. Members are addresses: what an address is follows from it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def create(self, email: str, *, display_name: str, description: str, actor: str) -> Group:
        """Make an empty group.

        Raises:
            InvalidRequestError: no group can have that address. NameTakenError: it exists.
        """
        email = email.lower()
        if not is_email(email) or is_service_account_email(email):
            raise InvalidRequestError(f"{email!r} cannot be a group's address", fix="NAME@DOMAIN")
        group = Group(
            email=email,
            display_name=display_name,
            description=description,
            created_at=self._desk.now(),
        )

        async def work(transaction: Transaction) -> Group:
            if await _exists(transaction, email):
                raise NameTakenError(f"group {email} exists already")
            await transaction.execute(
                f"INSERT INTO iam_group ({_COLUMNS}) VALUES ($1, $2, $3, $4)",
                email,
                display_name,
                description,
                group.created_at,
            )
            await self._desk.note(
                transaction, actor=actor, verb="group.create", resource=group.resource
            )
            return group

        return await self._desk.change(work)

    async def get(self, email: str) -> Group:
        """The group of that address.

        Raises:
            UnknownResourceError: there is none.
        """
        if not is_email(email.lower()):
            raise _unknown(email)
        row = await self._desk.sql.fetch_row(
            f"SELECT {_COLUMNS} FROM iam_group WHERE email = $1", email.lower()
        )
        if row is None:
            raise _unknown(email)
        return _read(row)

    async def list(self, *, limit: int, after: str = "") -> tuple[Group, ...]:
        """At most *limit* groups whose addresses come after *after*, sorted by it."""
        rows = await self._desk.sql.fetch(
            f"SELECT {_COLUMNS} FROM iam_group WHERE email > $1 ORDER BY email LIMIT {limit:d}",
            after,
        )
        return tuple(map(_read, rows))

    async def delete(self, email: str, *, actor: str) -> None:
        """Delete a group; policies lose it.

        Raises:
            UnknownResourceError: there is none.
        """
        email = email.lower()

        async def work(transaction: Transaction) -> None:
            if not await _exists(transaction, email):
                raise _unknown(email)
            await replace_member(transaction, f"group:{email}", "")
            await transaction.execute(
                "DELETE FROM iam_group_member WHERE group_email = $1 OR member = $2", email, email
            )
            await transaction.execute("DELETE FROM iam_group WHERE email = $1", email)
            await self._desk.note(
                transaction, actor=actor, verb="group.delete", resource=f"groups/{email}"
            )

        await self._desk.change(work)

    async def add_member(self, email: str, member: str, *, actor: str) -> None:
        """Put an address into a group; nothing changes if it is there.

        Raises:
            UnknownResourceError: there is no such group. InvalidRequestError: the member is no address, or it is the
                group itself, or a group that this one is in.
        """
        email, member = email.lower(), _member(member)

        async def work(transaction: Transaction) -> None:
            if not await _exists(transaction, email):
                raise _unknown(email)
            above = {row[0] for row in await transaction.fetch(_GROUPS_OF, email)}
            if member == email or member in above:
                raise InvalidRequestError(
                    f"{member} cannot be in {email}", why=f"{email} is itself in {member}"
                )
            await _remove(transaction, email, member)
            await transaction.execute(
                "INSERT INTO iam_group_member (group_email, member, added_at) VALUES ($1, $2, $3)",
                email,
                member,
                now,
            )
            await self._desk.note(
                transaction,
                actor=actor,
                verb="group.addMember",
                resource=f"groups/{email}",
                detail=member,
            )

        now = self._desk.now()
        await self._desk.change(work)

    async def remove_member(self, email: str, member: str, *, actor: str) -> None:
        """Take an address out of a group.

        Raises:
            UnknownResourceError: there is no such group, or the address is not in it.
        """
        email, member = email.lower(), _member(member)

        async def work(transaction: Transaction) -> None:
            if not await _exists(transaction, email):
                raise _unknown(email)
            if not await _remove(transaction, email, member):
                raise UnknownResourceError(f"{member} is not in group {email}")
            await self._desk.note(
                transaction,
                actor=actor,
                verb="group.removeMember",
                resource=f"groups/{email}",
                detail=member,
            )

        await self._desk.change(work)

    async def members(self, email: str) -> tuple[str, ...]:
        """The addresses in a group, sorted; not those of the groups in it.

        Raises:
            UnknownResourceError: there is no such group.
        """
        await self.get(email)
        rows = await self._desk.sql.fetch(
            "SELECT member FROM iam_group_member WHERE group_email = $1 ORDER BY member",
            email.lower(),
        )
        return tuple(row[0] for row in rows)

    async def groups_of(self, email: str) -> frozenset[str]:
        """Every group that an address is in, by itself or through other groups."""
        return frozenset(row[0] for row in await self._desk.sql.fetch(_GROUPS_OF, email))


async def _exists(transaction: Transaction, email: str) -> bool:
    return is_email(email) and (
        await transaction.fetch_row("SELECT 1 FROM iam_group WHERE email = $1", email) is not None
    )


async def _remove(transaction: Transaction, email: str, member: str) -> int:
    return await transaction.execute(
        "DELETE FROM iam_group_member WHERE group_email = $1 AND member = $2", email, member
    )


def _member(text: str) -> str:
    member = text.lower().removeprefix("user:").removeprefix("group:")
    member = member.removeprefix("serviceaccount:")
    if not is_email(member):
        raise InvalidRequestError(f"{text!r} cannot be in a group", why="a member is an address")
    return member


def _unknown(email: str) -> UnknownResourceError:
    return UnknownResourceError(
        f"group {email} does not exist", fix=f"hako identity groups create {email}"
    )


def _read(row: Row) -> Group:
    return Group(email=row[0], display_name=row[1], description=row[2], created_at=row[3])
