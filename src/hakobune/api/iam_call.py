"""What all methods of the IAM API share: names out of paths, bodies, pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from hakobune.api.caller import caller_of
from hakobune.iam.account_store import Account, account_resource, unknown_account
from hakobune.iam.errors import InvalidRequestError, UnknownResourceError
from hakobune.iam.principal import check_project, is_service_account_email
from hakobune.iam.store import IamStore

JsonObject = dict[str, Any]
DEFAULT_PAGE = 100
MAX_PAGE = 1000


def project_of(request: Request) -> str:
    """The project of the path.

    Raises:
        InvalidRequestError: it can be none.
    """
    return check_project(request.path_params["project"])


async def account_of(request: Request, iam: IamStore) -> Account:
    """The account of the path, which names it by its address; `-` stands for its project.

    Raises:
        UnknownResourceError: the project has none of that name.
    """
    email = request.path_params["account"].lower()
    if not is_service_account_email(email):
        raise unknown_account(email)
    account = await iam.accounts.get(email)
    if request.path_params["project"] not in ("-", account.project):
        raise UnknownResourceError(f"service account {email} is not of that project")
    return account


def account_in(path_params: Mapping[str, Any]) -> str:
    """The resource name of the account in a path, whatever project the path says."""
    return account_resource(str(path_params["account"]).lower())


def actor_of(request: Request) -> str:
    """The caller as the audit trail names him."""
    return str(caller_of(request))


def text_of(body: JsonObject, field: str) -> str:
    """A text field of a body; empty if it is not there.

    Raises:
        InvalidRequestError: it is something else.
    """
    value = body.get(field) or ""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{field} is no text")
    return value


def object_of(body: JsonObject, field: str) -> JsonObject:
    """An object field of a body; empty if it is not there.

    Raises:
        InvalidRequestError: it is something else.
    """
    value = body.get(field) or {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{field} is no JSON object")
    return value


def page_of(request: Request) -> tuple[int, str]:
    """Page size, and the name after which the page begins.

    Raises:
        InvalidRequestError: the page size is no number.
    """
    size = request.query_params.get("pageSize") or "0"
    if not size.isdecimal():
        raise InvalidRequestError(f"{size!r} is no page size")
    token = request.query_params.get("pageToken", "")
    if "\0" in token:
        raise InvalidRequestError("that is no page token")
    return min(int(size) or DEFAULT_PAGE, MAX_PAGE), token
