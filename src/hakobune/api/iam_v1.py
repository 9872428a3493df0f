"""IAM over REST: service accounts (IAM v1), projects and their policies (Resource Manager v1), roles, groups, tokens.

Google has no words for tokens of users and of the owner, nor for the keys that sign them: `users/EMAIL:generateAccessToken`,
`owner:generateAccessToken` and `signingKeys:rotate` are ours.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hakobune.api.artifacts_context import read_body
from hakobune.api.caller import ANYBODY, OWNER_ONLY, caller_of, permitted
from hakobune.api.iam_accounts import Accounts, token_response
from hakobune.api.iam_call import JsonObject, account_in, account_of, actor_of, project_of
from hakobune.api.iam_groups import Groups
from hakobune.api.iam_policies import PolicyMethods
from hakobune.api.resource_paths import Endpoint, ResourceRoute
from hakobune.iam.errors import UnknownResourceError
from hakobune.iam.principal import project_number, user
from hakobune.iam.roles import ROLES, Role
from hakobune.iam.store import IamStore

_PROJECT = "/v1/projects/{project}"
_ACCOUNTS = _PROJECT + "/serviceAccounts"
_ACCOUNT = _ACCOUNTS + "/{account}"
_KEYS = _ACCOUNT + "/keys"
_KEY = _KEYS + "/{key}"


def iam_v1_routes(iam: IamStore) -> list[ResourceRoute]:
    """The routes of the API, most particular first."""
    return [
        *_account_routes(Accounts(iam), PolicyMethods(iam, _Find(iam).account)),
        *_project_routes(PolicyMethods(iam, _Find(iam).project)),
        *_group_routes(Groups(iam)),
        *_token_routes(_Tokens(iam)),
        ResourceRoute("GET", "/v1/roles/{role}", permitted(_get_role, ANYBODY)),
        ResourceRoute("GET", "/v1/roles", permitted(_list_roles, ANYBODY)),
    ]


def _account_routes(accounts: Accounts, policies: PolicyMethods) -> list[ResourceRoute]:
    project = "projects/{project}"
    table: list[tuple[str, str, Endpoint, str, Any]] = [
        ("POST", _KEY + ":disable", accounts.disable_key, "serviceAccountKeys.disable", account_in),
        ("POST", _KEY + ":enable", accounts.enable_key, "serviceAccountKeys.enable", account_in),
        ("GET", _KEY, accounts.get_key, "serviceAccountKeys.get", account_in),
        ("DELETE", _KEY, accounts.delete_key, "serviceAccountKeys.delete", account_in),
        ("GET", _KEYS, accounts.list_keys, "serviceAccountKeys.list", account_in),
        ("POST", _KEYS, accounts.create_key, "serviceAccountKeys.create", account_in),
        ("POST", _ACCOUNT + ":generateAccessToken", accounts.generate_access_token, "serviceAccounts.getAccessToken", account_in),
        ("POST", _ACCOUNT + ":disable", accounts.disable, "serviceAccounts.disable", account_in),
        ("POST", _ACCOUNT + ":enable", accounts.enable, "serviceAccounts.enable", account_in),
        ("POST", _ACCOUNT + ":getIamPolicy", policies.get, "serviceAccounts.getIamPolicy", account_in),
        ("GET", _ACCOUNT + ":getIamPolicy", policies.get, "serviceAccounts.getIamPolicy", account_in),
        ("POST", _ACCOUNT + ":setIamPolicy", policies.set, "serviceAccounts.setIamPolicy", account_in),
        ("GET", _ACCOUNT, accounts.get, "serviceAccounts.get", account_in),
        ("PATCH", _ACCOUNT, accounts.patch, "serviceAccounts.update", account_in),
        ("PUT", _ACCOUNT, accounts.replace, "serviceAccounts.update", account_in),
        ("DELETE", _ACCOUNT, accounts.delete, "serviceAccounts.delete", account_in),
        ("GET", _ACCOUNTS, accounts.list, "serviceAccounts.list", project),
        ("POST", _ACCOUNTS, accounts.create, "serviceAccounts.create", project),
    ]  # fmt: skip
    return [
        ResourceRoute("POST", _ACCOUNT + ":testIamPermissions", permitted(policies.test, ANYBODY)),
        *(
            ResourceRoute(method, path, permitted(endpoint, f"iam.{permission}", resource))
            for method, path, endpoint, permission, resource in table
        ),
    ]


def _project_routes(policies: PolicyMethods) -> list[ResourceRoute]:
    service, project = "resourcemanager.projects.", "projects/{project}"
    get = permitted(policies.get, service + "getIamPolicy", project)
    put = permitted(policies.set, service + "setIamPolicy", project)
    return [
        ResourceRoute("POST", _PROJECT + ":getIamPolicy", get),
        ResourceRoute("GET", _PROJECT + ":getIamPolicy", get),
        ResourceRoute("POST", _PROJECT + ":setIamPolicy", put),
        ResourceRoute("POST", _PROJECT + ":testIamPermissions", permitted(policies.test, ANYBODY)),
        ResourceRoute("GET", _PROJECT, permitted(_get_project, service + "get", project)),
    ]


def _group_routes(groups: Groups) -> list[ResourceRoute]:
    """Groups belong to no project: the owner alone keeps them."""
    table: tuple[tuple[str, str, Endpoint], ...] = (
        ("GET", "/v1/groups:lookup", groups.lookup),
        ("GET", "/v1/groups", groups.list),
        ("POST", "/v1/groups", groups.create),
        ("DELETE", "/v1/groups/{group}/memberships/{member}", groups.remove_member),
        ("GET", "/v1/groups/{group}/memberships", groups.list_members),
        ("POST", "/v1/groups/{group}/memberships", groups.add_member),
        ("GET", "/v1/groups/{group}", groups.get),
        ("DELETE", "/v1/groups/{group}", groups.delete),
    )
    return [
        ResourceRoute(method, path, permitted(endpoint, OWNER_ONLY))
        for method, path, endpoint in table
    ]


def _token_routes(tokens: _Tokens) -> list[ResourceRoute]:
    return [
        ResourceRoute(
            "POST", "/v1/users/{user}:generateAccessToken", permitted(tokens.of_user, OWNER_ONLY)
        ),
        ResourceRoute(
            "POST", "/v1/owner:generateAccessToken", permitted(tokens.of_caller, OWNER_ONLY)
        ),
        ResourceRoute("POST", "/v1/signingKeys:rotate", permitted(tokens.rotate, OWNER_ONLY)),
    ]


class _Tokens:
    """Access tokens that the owner gives out, and the keys that sign them."""

    def __init__(self, iam: IamStore) -> None:
        self._iam = iam

    async def of_user(self, request: Request) -> Response:
        principal = user(request.path_params["user"])
        return await token_response(self._iam, principal, request)

    async def of_caller(self, request: Request) -> Response:
        return await token_response(self._iam, caller_of(request), request)

    async def rotate(self, request: Request) -> Response:
        body = await read_body(request)
        await self._iam.signing_keys.rotate(
            actor=actor_of(request), revoke=bool(body.get("revoke"))
        )
        return JSONResponse({})


class _Find:
    """The resource of a path, if it exists."""

    def __init__(self, iam: IamStore) -> None:
        self._iam = iam

    async def account(self, request: Request) -> str:
        return (await account_of(request, self._iam)).resource

    async def project(self, request: Request) -> str:
        return f"projects/{project_of(request)}"


async def _get_project(request: Request) -> Response:
    """Every project that can exist does: it is what resources are named by."""
    project = project_of(request)
    return JSONResponse(
        {
            "projectId": project,
            "projectNumber": str(project_number(project)),
            "name": project,
            "lifecycleState": "ACTIVE",
        }
    )


async def _list_roles(_: Request) -> Response:
    return JSONResponse({"roles": [_role(role) for _, role in sorted(ROLES.items())]})


async def _get_role(request: Request) -> Response:
    name = f"roles/{request.path_params['role']}"
    role = ROLES.get(name)
    if role is None:
        raise UnknownResourceError(f"there is no role {name}", fix="hako iam roles list")
    return JSONResponse({**_role(role), "includedPermissions": sorted(role.permissions)})


def _role(role: Role) -> JsonObject:
    return {"name": role.name, "title": role.title, "stage": "GA"}
