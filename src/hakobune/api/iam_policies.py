"""getIamPolicy, setIamPolicy and testIamPermissions of every kind of resource, as Google's clients call them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hakobune.api.artifacts_context import read_body
from hakobune.api.caller import caller_of
from hakobune.api.iam_call import JsonObject, actor_of, text_of
from hakobune.iam.errors import InvalidRequestError
from hakobune.iam.policy import read_policy
from hakobune.iam.principal import Principal
from hakobune.iam.resource import kind_of
from hakobune.iam.store import IamStore

# The resource of a request; raises an error of ours if it does not exist.
FindResource = Callable[[Request], Awaitable[str]]

PERMISSION_LIMIT = 100


async def get_policy(iam: IamStore, resource: str) -> JsonObject:
    """The policy's document."""
    return (await iam.policies.get(resource)).to_document()


async def set_policy(iam: IamStore, resource: str, body: JsonObject, *, actor: str) -> JsonObject:
    """Replace the policy by the body's `policy`; the document of what is kept.

    Raises:
        InvalidRequestError: something in it cannot be kept. ConcurrentChangeError: its etag is an old one.
    """
    document = body.get("policy")
    policy = read_policy(document, kind_of(resource))
    assert isinstance(document, dict)  # read_policy refuses anything else
    stored = await iam.policies.set(resource, policy, etag=text_of(document, "etag"), actor=actor)
    return stored.to_document()


async def test_permissions(
    iam: IamStore, resource: str, body: JsonObject, *, caller: Principal
) -> JsonObject:
    """Which of the body's `permissions` the caller has; says nothing about whether the resource exists.

    Raises:
        InvalidRequestError: these are not permissions, or there are too many of them.
    """
    asked = body.get("permissions") or []
    if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise InvalidRequestError("permissions is no array of texts")
    if len(asked) > PERMISSION_LIMIT:
        raise InvalidRequestError(f"permissions: at most {PERMISSION_LIMIT} are asked at once")
    if wild := next((name for name in asked if "*" in name), None):
        raise InvalidRequestError(f"permissions: {wild!r} is not the name of one")
    had = [name for name in asked if (await iam.check(caller, name, resource)).allowed]
    return {"permissions": had} if had else {}


class PolicyMethods:
    """The three methods on one kind of resource."""

    def __init__(self, iam: IamStore, find: FindResource) -> None:
        self._iam = iam
        self._find = find

    async def get(self, request: Request) -> Response:
        return JSONResponse(await get_policy(self._iam, await self._find(request)))

    async def set(self, request: Request) -> Response:
        resource, body = await self._find(request), await read_body(request)
        return JSONResponse(await set_policy(self._iam, resource, body, actor=actor_of(request)))

    async def test(self, request: Request) -> Response:
        resource, body = await self._find(request), await read_body(request)
        return JSONResponse(
            await test_permissions(self._iam, resource, body, caller=caller_of(request))
        )
