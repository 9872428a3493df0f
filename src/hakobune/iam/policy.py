"""Policies as values: who has which role on one resource, and whether that suffices.

The document is Google's (`google.iam.v1.Policy` in JSON). Read here by hand, since registry workers decide, too.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hakobune.iam.errors import ConcurrentChangeError, InvalidRequestError
from hakobune.iam.member import canonical_member
from hakobune.iam.principal import (
    Principal,
    PrincipalKind,
    project_of_account,
    registry_agent,
    serving_agent,
)
from hakobune.iam.resource import ResourceKind
from hakobune.iam.roles import ROLES, find_role

MEMBER_LIMIT: Final = 1500  # in all bindings of a policy, as Google's
_BINDING_KEYS: Final = frozenset(("role", "members", "condition"))
_POLICY_KEYS: Final = frozenset(("version", "bindings", "etag", "auditConfigs"))


@dataclass(frozen=True, slots=True)
class Binding:
    """A role and who has it; members are canonical, sorted and each there once."""

    role: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The bindings of one resource, at most one a role, sorted; *revision* counts its changes (0: never set)."""

    bindings: tuple[Binding, ...] = ()
    revision: int = 0

    @property
    def etag(self) -> str:
        """The revision as base64 of eight bytes, as Google's clients expect bytes."""
        return base64.b64encode(self.revision.to_bytes(8, "big")).decode()

    def to_document(self) -> dict[str, Any]:
        bindings = [{"role": b.role, "members": list(b.members)} for b in self.bindings]
        return {"version": 1, "etag": self.etag, **({"bindings": bindings} if bindings else {})}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something is allowed, and by which binding, or why not."""

    allowed: bool
    reason: str


def decide(
    principal: Principal,
    identities: frozenset[str],
    permission: str,
    policies: Iterable[tuple[str, Policy]],
) -> Verdict:
    """Whether *principal* has *permission* by one of *policies* (pure).

    Args:
        identities: `member.identities` of the principal.
        policies: resource name and policy, nearest first, of everything that applies.
    """
    if principal.kind is PrincipalKind.OWNER:
        return Verdict(True, "the owner of the installation may do everything")
    for resource, policy in policies:
        for binding in policy.bindings:
            role = ROLES.get(binding.role)
            if role is None or permission not in role.permissions:
                continue
            for member in binding.members:
                if member in identities:
                    return Verdict(True, f"{member} has {binding.role} on {resource}")
    return Verdict(False, f"nothing gives {principal} {permission}")


def default_policy(project: str) -> Policy:
    """The policy of a project that never got one: its own agents may read its repositories."""
    return Policy(
        (
            Binding("roles/artifactregistry.serviceAgent", (str(registry_agent(project)),)),
            Binding("roles/run.serviceAgent", (str(serving_agent(project)),)),
        )
    )


def read_policy(document: object, kind: ResourceKind) -> Policy:
    """The policy of a `setIamPolicy` body's `policy`, checked for a resource of that *kind*.

    Its revision is 0; the document's etag is for `check_etag`.

    Raises:
        InvalidRequestError: a role or member is none, a role does not fit the resource, there is a condition, …;
            the message names the place.
    """
    fields = _object(document, "policy")
    _refuse_unknown(fields, _POLICY_KEYS, "policy")
    if fields.get("auditConfigs"):
        raise InvalidRequestError(
            "policy.auditConfigs cannot be set",
            why="hakobune writes every change and grant to its audit trail",
        )
    if fields.get("version", 0) not in (0, 1, 3):
        raise InvalidRequestError(f"policy.version: {fields['version']!r} is no version", fix="1")
    bindings = _list(fields.get("bindings") or [], "policy.bindings")
    return make_policy(
        _read_binding(binding, f"policy.bindings[{place}]", kind)
        for place, binding in enumerate(bindings)
    )


def make_policy(bindings: Iterable[Binding]) -> Policy:
    """A policy with the bindings of one role joined, empty ones left out.

    Raises:
        InvalidRequestError: more members than a policy holds.
    """
    members: dict[str, set[str]] = {}
    for binding in bindings:
        members.setdefault(binding.role, set()).update(binding.members)
    count = sum(map(len, members.values()))
    if count > MEMBER_LIMIT:
        raise InvalidRequestError(
            f"policy: {count} members are too many",
            why=f"all bindings of a policy together have at most {MEMBER_LIMIT}",
            fix="put them into a group",
        )
    return Policy(
        tuple(Binding(role, tuple(sorted(who))) for role, who in sorted(members.items()) if who)
    )


def check_etag(current: Policy, etag: str) -> None:
    """Raise `ConcurrentChangeError` if *etag* was given and is not that of *current*."""
    if etag and not hmac.compare_digest(etag.encode(), current.etag.encode()):
        raise ConcurrentChangeError(
            "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
            fix="read the policy again, change that, and set it",
        )


def without_member(policy: Policy, member: str, *, replacement: str = "") -> Policy:
    """The policy after *member* has gone from every binding, *replacement* standing where it stood."""
    return replace(
        make_policy(
            Binding(
                b.role,
                tuple(
                    replacement if m == member else m
                    for m in b.members
                    if replacement or m != member
                ),
            )
            for b in policy.bindings
        ),
        revision=policy.revision,
    )


@dataclass(frozen=True, slots=True)
class Change:
    """One member getting (or losing) one role."""

    added: bool
    role: str
    member: str

    def __str__(self) -> str:
        return f"{'+' if self.added else '-'}{self.role} {self.member}"


def changes(before: Policy, after: Policy) -> tuple[Change, ...]:
    """What was granted and taken away, for the audit trail: grants first."""
    old, new = _pairs(before), _pairs(after)
    return (
        *(Change(True, role, member) for role, member in sorted(new - old)),
        *(Change(False, role, member) for role, member in sorted(old - new)),
    )


def named_accounts(policy: Policy) -> frozenset[str]:
    """Addresses of the service accounts of projects here that must exist, and `group:` members, as texts."""
    return frozenset(
        member
        for binding in policy.bindings
        for member in binding.members
        if member.startswith("group:")
        or (member.startswith("serviceAccount:") and project_of_account(member.partition(":")[2]))
    )


def _pairs(policy: Policy) -> set[tuple[str, str]]:
    return {(binding.role, member) for binding in policy.bindings for member in binding.members}


def _read_binding(document: object, place: str, kind: ResourceKind) -> Binding:
    fields = _object(document, place)
    _refuse_unknown(fields, _BINDING_KEYS, place)
    if fields.get("condition"):
        raise InvalidRequestError(
            f"{place}.condition cannot be kept",
            why="hakobune's bindings have no conditions, and one that is not looked at would grant too much",
            fix="grant the role on the one repository or service that is meant",
        )
    name = fields.get("role")
    if not isinstance(name, str) or not name:
        raise InvalidRequestError(
            f"{place}.role is missing", fix="roles/artifactregistry.reader, for example"
        )
    role = find_role(name)
    if kind not in role.granted_on:
        raise InvalidRequestError(
            f"{place}: {name} cannot be granted on a {kind}",
            why=f"it is granted on a {' or a '.join(sorted(role.granted_on))}",
        )
    members = _list(fields.get("members") or [], f"{place}.members")
    return Binding(
        name, tuple(_member(member, f"{place}.members[{i}]") for i, member in enumerate(members))
    )


def _member(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError(f"{place} is no text")
    try:
        return canonical_member(value)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{place}: {error.what}", why=error.why, fix=error.fix) from error


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{place} is no JSON object")
    return value


def _list(value: object, place: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise InvalidRequestError(f"{place} is no JSON array")
    return value


def _refuse_unknown(fields: Mapping[str, Any], known: frozenset[str], place: str) -> None:
    for key in fields:
        if key not in known:
            raise InvalidRequestError(
                f"{place} has no field {key!r}", fix=", ".join(sorted(known - {"auditConfigs"}))
            )
