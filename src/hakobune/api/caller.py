"""Who makes a call of the API, and whether he may: each route says which permission it wants on which resource.

The owner may everything, so calls on the unix socket and with the installation's own token never ask a policy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hakobune.iam.errors import AccessDeniedError, InvalidRequestError
from hakobune.iam.principal import ANONYMOUS, OWNER, Principal, PrincipalKind
from hakobune.iam.store import IamStore

Endpoint = Callable[[Request], Awaitable[Response]]

# Instead of a permission: any known caller; the owner alone.
ANYBODY: Final = "anybody"
OWNER_ONLY: Final = "owner"

_CALLER: Final = "hakobune.caller"
# The same for what is asked on the way of a call and knows no requests: `ImageAccess`.
_current: ContextVar[Principal] = ContextVar("caller", default=ANONYMOUS)


class OwnerCalls:
    """Whoever reaches *app* this way is the owner: the kernel lets nobody else open the socket."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        set_caller(scope, OWNER)
        await self._app(scope, receive, send)


def set_caller(scope: Scope, caller: Principal) -> None:
    """Say who makes the call; done by what stands around the application."""
    scope[_CALLER] = caller
    _current.set(caller)


def current_caller() -> Principal:
    """Who makes the call that the running task answers; nobody outside of one."""
    return _current.get()


def caller_of(request: Request) -> Principal:
    """Who makes the call; nobody if nothing around the application has said so."""
    caller = request.scope.get(_CALLER, ANONYMOUS)
    assert isinstance(caller, Principal)  # put there by `set_caller`
    return caller


def permitted(
    endpoint: Endpoint, permission: str, resource: str | Callable[[Mapping[str, Any]], str] = ""
) -> Endpoint:
    """*endpoint* for those who have *permission* on *resource*.

    Args:
        resource: a resource name with the path's parameters in it, `projects/{project}`, or what makes one of them.
    """

    async def checked(request: Request) -> Response:
        caller = caller_of(request)
        if caller.kind is not PrincipalKind.OWNER:
            ids = _segments(request.path_params)
            where = resource(ids) if callable(resource) else resource.format_map(ids)
            await require(request.app.state.iam, caller, permission, where)
        return await endpoint(request)

    checked.permission = permission  # type: ignore[attr-defined] # a test looks whether every route has one
    return checked


async def require(iam: IamStore, caller: Principal, permission: str, resource: str) -> None:
    """Refuse in Google's words, which are the same for a resource that is not there.

    Raises:
        AccessDeniedError: the caller may not.
    """
    if caller.kind is PrincipalKind.OWNER or (permission == ANYBODY and caller.is_known):
        return
    if permission == OWNER_ONLY:
        raise AccessDeniedError("only the owner of the installation may do this")
    if not (await iam.check(caller, permission, resource)).allowed:
        raise AccessDeniedError(
            f"Permission '{permission}' denied on resource '{resource}' (or it may not exist)."
        )


def _segments(parameters: dict[str, Any]) -> dict[str, str]:
    """The path's parameters, each of which is one segment of a resource name.

    Raises:
        InvalidRequestError: one holds a slash, and would name another resource.
    """
    for value in parameters.values():
        if "/" in str(value):
            raise InvalidRequestError(f"{value!r} is no part of a resource name")
    return {name: str(value) for name, value in parameters.items()}
