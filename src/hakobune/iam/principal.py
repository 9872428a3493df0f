"""Who calls: the owner of the installation, a user, a service account, or nobody known."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hakobune.iam.errors import InvalidRequestError

_EMAIL: Final = re.compile(
    r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?"
)
_ACCOUNT_ID: Final = re.compile(r"[a-z](?:[-a-z0-9]{4,28})[a-z0-9]")
_PROJECT: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?")
_ACCOUNT_DOMAIN: Final = ".iam.gserviceaccount.com"

# Domains of Google's own agents: a project of that name could otherwise make another project's agent.
_SERVING_AGENTS: Final = "serverless-robot-prod"
_REGISTRY_AGENTS: Final = "gcp-sa-artifactregistry"
_RESERVED_PROJECTS: Final = re.compile(r"serverless-robot-prod|gcp-sa-.*|projects")


class PrincipalKind(StrEnum):
    """What a principal is; user and service account are spelled as in a policy's members."""

    OWNER = "owner"
    USER = "user"
    SERVICE_ACCOUNT = "serviceAccount"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Principal:
    """An identity that has been checked. `str` gives `user:EMAIL`, `owner`, …, which `parse_principal` reads."""

    kind: PrincipalKind
    email: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.email}" if self.email else str(self.kind)

    @property
    def is_known(self) -> bool:
        return self.kind is not PrincipalKind.ANONYMOUS


OWNER: Final = Principal(PrincipalKind.OWNER)
ANONYMOUS: Final = Principal(PrincipalKind.ANONYMOUS)


def parse_principal(text: str) -> Principal:
    """The principal that `str` wrote.

    Raises:
        InvalidRequestError: it names none.
    """
    kind, _, email = text.partition(":")
    if kind in (PrincipalKind.USER, PrincipalKind.SERVICE_ACCOUNT) and is_email(email):
        return Principal(PrincipalKind(kind), email)
    if text in (PrincipalKind.OWNER, PrincipalKind.ANONYMOUS):
        return Principal(PrincipalKind(text))
    raise InvalidRequestError(f"{text!r} names no principal")


def user(email: str) -> Principal:
    """The user of that address, which is compared in lower case.

    Raises:
        InvalidRequestError: it is no address, or a service account's.
    """
    email = email.lower()
    if not is_email(email):
        raise InvalidRequestError(
            f"{email!r} is no e-mail address",
            why="people and service accounts are called by one",
            fix="NAME@example.com",
        )
    if is_service_account_email(email):
        raise InvalidRequestError(
            f"{email!r} is a service account", fix=f"--impersonate-service-account={email}"
        )
    return Principal(PrincipalKind.USER, email)


def service_account(email: str) -> Principal:
    """The service account of that address.

    Raises:
        InvalidRequestError: no service account has such an address.
    """
    email = email.lower()
    if not is_service_account_email(email):
        raise InvalidRequestError(
            f"{email!r} is no service account", fix=f"NAME@PROJECT{_ACCOUNT_DOMAIN}"
        )
    return Principal(PrincipalKind.SERVICE_ACCOUNT, email)


def is_email(text: str) -> bool:
    """Whether *text* is an address in lower case."""
    return _EMAIL.fullmatch(text) is not None and ".." not in text


def is_service_account_email(email: str) -> bool:
    return is_email(email) and email.endswith((_ACCOUNT_DOMAIN, "@developer.gserviceaccount.com"))


def account_email(account_id: str, project: str) -> str:
    """The address of a project's own service account.

    Raises:
        InvalidRequestError: the id is not 6 to 30 of `a-z0-9-`, or the project cannot have accounts.
    """
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise InvalidRequestError(
            f"{account_id!r} cannot name a service account",
            why="a name has 6 to 30 of a-z, 0-9 and -, begins with a letter and does not end with -",
        )
    check_project(project)
    return f"{account_id}@{project}{_ACCOUNT_DOMAIN}"


def project_of_account(email: str) -> str:
    """The project of an account that `account_email` named; empty for an agent or a foreign address."""
    project = email.partition("@")[2].removesuffix(_ACCOUNT_DOMAIN)
    if not email.endswith(_ACCOUNT_DOMAIN) or _RESERVED_PROJECTS.fullmatch(project):
        return ""
    return project


def check_project(project: str) -> str:
    """*project* itself, if it is a project's id.

    Raises:
        InvalidRequestError: it is not, or the id is reserved.
    """
    if not _PROJECT.fullmatch(project) or _RESERVED_PROJECTS.fullmatch(project):
        raise InvalidRequestError(
            f"{project!r} cannot be a project's id",
            why="an id has up to 30 of a-z, 0-9 and -, begins with a letter; a few are reserved",
        )
    return project


def project_number(project: str) -> int:
    """The project's number: 12 digits that follow from its id."""
    digest = hashlib.sha256(b"hakobune project " + project.encode()).digest()
    return 10**11 + int.from_bytes(digest[:8], "big") % (9 * 10**11)


def serving_agent(project: str) -> Principal:
    """Cloud Run's agent of a project: it pulls the images of that project's services."""
    return _agent(project, _SERVING_AGENTS)


def registry_agent(project: str) -> Principal:
    """Artifact Registry's agent of a project: it reads the upstreams of that project's repositories."""
    return _agent(project, _REGISTRY_AGENTS)


def is_agent(email: str) -> bool:
    """Whether the address is an agent's: it exists without having been made, and has no keys."""
    return email.endswith(
        (f"@{_SERVING_AGENTS}{_ACCOUNT_DOMAIN}", f"@{_REGISTRY_AGENTS}{_ACCOUNT_DOMAIN}")
    )


def _agent(project: str, service: str) -> Principal:
    email = f"service-{project_number(project)}@{service}{_ACCOUNT_DOMAIN}"
    return Principal(PrincipalKind.SERVICE_ACCOUNT, email)
