"""Members of a binding, as text: `user:`, `serviceAccount:`, `group:`, `domain:`, `allUsers`, `allAuthenticatedUsers`.

A principal *is* a set of such texts (`identities`); a binding applies if it holds one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, assert_never

from hakobune.iam.errors import InvalidRequestError
from hakobune.iam.principal import Principal, PrincipalKind, is_email, is_service_account_email

ALL_USERS: Final = "allUsers"
ALL_AUTHENTICATED_USERS: Final = "allAuthenticatedUsers"

_DOMAIN: Final = re.compile(
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+"
)
_DELETED: Final = re.compile(r"deleted:(serviceAccount|user|group):([^?]+)\?uid=([0-9]+)")


class MemberKind(StrEnum):
    """What stands before the colon of a member, or is the whole of it."""

    USER = "user"
    SERVICE_ACCOUNT = "serviceAccount"
    GROUP = "group"
    DOMAIN = "domain"
    ALL_USERS = "allUsers"
    ALL_AUTHENTICATED_USERS = "allAuthenticatedUsers"
    DELETED = "deleted"


def parse_member(text: str) -> tuple[MemberKind, str]:
    """Kind and value (address or domain in lower case, empty for the `all…` kinds).

    Raises:
        InvalidRequestError: the text is no member; it is named.
    """
    head, colon, value = text.partition(":")
    value = value.lower()
    match _kind(head):
        case MemberKind.ALL_USERS | MemberKind.ALL_AUTHENTICATED_USERS as kind if not colon:
            return kind, ""
        case MemberKind.SERVICE_ACCOUNT as kind if is_service_account_email(value):
            return kind, value
        case MemberKind.USER as kind if is_email(value) and not is_service_account_email(value):
            return kind, value
        case MemberKind.GROUP as kind if is_email(value):
            return kind, value
        case MemberKind.DOMAIN as kind if _DOMAIN.fullmatch(value):
            return kind, value
        case MemberKind.DELETED as kind if (found := _DELETED.fullmatch(text)) and is_email(
            found[2].lower()
        ):
            return kind, f"{found[1]}:{found[2].lower()}?uid={found[3]}"
        case kind:
            raise InvalidRequestError(
                f"{text!r} is no member", why=_wrong(kind, text), fix=_near(text)
            )


def canonical_member(text: str) -> str:
    """The member as it is kept and compared.

    Raises:
        InvalidRequestError: the text is no member; it is named.
    """
    kind, value = parse_member(text)
    return f"{kind}:{value}" if value else str(kind)


def deleted_member(member: str, uid: str) -> str:
    """What a member becomes when the account goes: it applies to nobody, also not to a later account of that name."""
    return f"deleted:{member}?uid={uid}"


def identities(principal: Principal, groups: Iterable[str] = ()) -> frozenset[str]:
    """Every member text that a principal is; *groups* are the addresses of the groups it belongs to.

    The owner is everything by another rule, and nothing here.
    """
    match principal.kind:
        case PrincipalKind.OWNER:
            return frozenset()
        case PrincipalKind.ANONYMOUS:
            return frozenset((ALL_USERS,))
        case PrincipalKind.USER:
            domain = f"domain:{principal.email.partition('@')[2]}"
            return _known(principal, (domain, *_members(groups)))
        case PrincipalKind.SERVICE_ACCOUNT:
            return _known(principal, _members(groups))
        case _:
            assert_never(principal.kind)


def _known(principal: Principal, also: Iterable[str]) -> frozenset[str]:
    return frozenset((str(principal), ALL_USERS, ALL_AUTHENTICATED_USERS, *also))


def _members(groups: Iterable[str]) -> Iterable[str]:
    return (f"group:{group}" for group in groups)


def _kind(head: str) -> MemberKind | None:
    try:
        return MemberKind(head)
    except ValueError:
        return None


def _wrong(kind: MemberKind | None, text: str) -> str:
    match kind:
        case None if text.startswith(
            ("principal:", "principalSet:", "projectOwner:", "projectEditor:", "projectViewer:")
        ):
            return "hakobune has no workload identity federation and no members that stand for basic roles"
        case None:
            return "a member is user:EMAIL, serviceAccount:EMAIL, group:EMAIL, domain:DOMAIN, allUsers or allAuthenticatedUsers"
        case MemberKind.SERVICE_ACCOUNT:
            return "a service account is NAME@PROJECT.iam.gserviceaccount.com"
        case MemberKind.USER if is_service_account_email(text.partition(":")[2].lower()):
            return "that address is a service account's"
        case MemberKind.DOMAIN:
            return "a domain is like example.com"
        case MemberKind.ALL_USERS | MemberKind.ALL_AUTHENTICATED_USERS:
            return "nothing follows that word"
        case MemberKind.DELETED:
            return "a deleted member is deleted:serviceAccount:EMAIL?uid=NUMBER"
        case MemberKind.USER | MemberKind.GROUP:
            return "what follows the colon is no e-mail address in full"


def _near(text: str) -> str:
    import difflib  # only needed when something is wrong

    head, colon, value = text.partition(":")
    if is_service_account_email(value.lower()):
        return f"serviceAccount:{value}"
    if not colon and is_email(text.lower()):
        kind = "serviceAccount" if is_service_account_email(text.lower()) else "user"
        return f"{kind}:{text}"
    near = difflib.get_close_matches(
        head, [kind for kind in MemberKind if kind is not MemberKind.DELETED], n=1
    )
    return f"{near[0]}{colon}{value}" if near and near[0] != head else ""
