"""Policies in the database: read, replaced as a whole under their etag, dropped with their resource."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from hakobune.iam.changes import Desk, touch
from hakobune.iam.errors import InvalidRequestError
from hakobune.iam.policy import (
    Binding,
    Policy,
    changes,
    check_etag,
    default_policy,
    named_accounts,
    without_member,
)
from hakobune.iam.principal import account_email, project_of_account
from hakobune.iam.resource import ResourceKind, kind_of
from hakobune.state.sql import Transaction

_SELECT: Final = "SELECT bindings, revision FROM iam_policy WHERE resource = $1"


class PolicyStore:
    """The policies of all resources."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def get(self, resource: str) -> Policy:
        """The policy of *resource*: an empty one, or a project's first one, if it never got any."""
        return _read(resource, await self._desk.sql.fetch_row(_SELECT, resource))

    async def set(self, resource: str, policy: Policy, *, etag: str, actor: str) -> Policy:
        """Replace the policy; what was granted and taken away is in the audit trail.

        Raises:
            ConcurrentChangeError: *etag* is not empty and not the policy's.
            InvalidRequestError: it newly names a service account or group that does not exist.
        """

        async def work(transaction: Transaction) -> Policy:
            row = await transaction.fetch_row(_SELECT, resource)
            current = _read(resource, row)
            check_etag(current, etag)
            await _check_names(transaction, named_accounts(policy) - named_accounts(current))
            stored = replace(policy, revision=current.revision + 1)
            await _write(transaction, resource, stored)
            happened = changes(current, stored)
            if happened:
                detail = "\n".join(map(str, happened))
                await self._desk.note(
                    transaction, actor=actor, verb="policy.set", resource=resource, detail=detail
                )
            return stored

        return await self._desk.change(work)

    async def chain(self, resources: tuple[str, ...]) -> tuple[tuple[str, Policy], ...]:
        """Resource and policy of each."""
        return tuple([(resource, await self.get(resource)) for resource in resources])


async def drop_policy(transaction: Transaction, resource: str) -> None:
    """Within the transaction that deletes *resource*: a later one of that name starts without grants."""
    await transaction.execute("DELETE FROM iam_policy WHERE resource = $1", resource)
    await touch(transaction)


async def replace_member(transaction: Transaction, member: str, replacement: str) -> None:
    """In every policy, put *replacement* (or nothing) where *member* stands."""
    for resource, bindings, revision in await transaction.fetch(
        "SELECT resource, bindings, revision FROM iam_policy"
    ):
        before = _read(resource, (bindings, revision))
        after = without_member(before, member, replacement=replacement)
        if after != before:
            await _write(transaction, resource, replace(after, revision=revision + 1))


async def _check_names(transaction: Transaction, members: frozenset[str]) -> None:
    for member in sorted(members):
        kind, _, email = member.partition(":")
        table = "iam_group" if kind == "group" else "iam_account"
        if await transaction.fetch_row(f"SELECT 1 FROM {table} WHERE email = $1", email) is None:
            raise InvalidRequestError(f"{member} does not exist", fix=_how_to_make(kind, email))


def _how_to_make(kind: str, email: str) -> str:
    """The command that makes the group or account, if it can be made by that name."""
    if kind == "group":
        return f"hako identity groups create {email}"
    name, project = email.partition("@")[0], project_of_account(email)
    try:
        account_email(name, project)
    except InvalidRequestError:
        return "hako iam service-accounts list"
    return f"hako iam service-accounts create {name} --project {project}"


async def _write(transaction: Transaction, resource: str, policy: Policy) -> None:
    bindings = json.dumps({b.role: b.members for b in policy.bindings}, separators=(",", ":"))
    await transaction.execute("DELETE FROM iam_policy WHERE resource = $1", resource)
    await transaction.execute(
        "INSERT INTO iam_policy (resource, bindings, revision) VALUES ($1, $2, $3)",
        resource,
        bindings,
        policy.revision,
    )


def _read(resource: str, row: tuple[object, ...] | None) -> Policy:
    if row is None:
        if kind_of(resource) is ResourceKind.PROJECT:
            return default_policy(resource.partition("/")[2])
        return Policy()
    bindings = json.loads(str(row[0]))
    revision = row[1]
    assert isinstance(revision, int)  # the column's type
    return Policy(tuple(Binding(role, tuple(who)) for role, who in bindings.items()), revision)
