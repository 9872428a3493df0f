"""IAM v1 over REST: service accounts and their keys, and access tokens of them (IAM Credentials v1)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hakobune.api.artifacts_context import read_body
from hakobune.api.iam_call import (
    JsonObject,
    account_of,
    actor_of,
    object_of,
    page_of,
    project_of,
    text_of,
)
from hakobune.iam.errors import InvalidRequestError
from hakobune.iam.principal import Principal, is_agent, service_account
from hakobune.iam.store import DEFAULT_TOKEN_S, IamStore
from hakobune.serving.document import parse_duration

_MUTABLE = {"displayName": "display_name", "description": "description"}


class Accounts:
    """One method an RPC."""

    def __init__(self, iam: IamStore) -> None:
        self._iam = iam

    async def create(self, request: Request) -> Response:
        body = await read_body(request)
        wanted = object_of(body, "serviceAccount")
        account = await self._iam.accounts.create(
            project_of(request),
            text_of(body, "accountId"),
            display_name=text_of(wanted, "displayName"),
            description=text_of(wanted, "description"),
            actor=actor_of(request),
        )
        return JSONResponse(account.to_document())

    async def list(self, request: Request) -> Response:
        size, after = page_of(request)
        found = await self._iam.accounts.list(project_of(request), limit=size + 1, after=after)
        page = found[:size]
        document: JsonObject = {"accounts": [account.to_document() for account in page]}
        if len(found) > size:
            document["nextPageToken"] = page[-1].email
        return JSONResponse(document)

    async def get(self, request: Request) -> Response:
        return JSONResponse((await account_of(request, self._iam)).to_document())

    async def patch(self, request: Request) -> Response:
        body = await read_body(request)
        mask = [name for name in text_of(body, "updateMask").split(",") if name]
        return await self._update(request, object_of(body, "serviceAccount"), mask)

    async def replace(self, request: Request) -> Response:
        return await self._update(request, await read_body(request), [])

    async def _update(self, request: Request, wanted: JsonObject, mask: Sequence[str]) -> Response:
        account = await account_of(request, self._iam)
        names = [_camel(name) for name in mask] or [n for n in _MUTABLE if n in wanted]
        if strange := next((name for name in names if name not in _MUTABLE), None):
            raise InvalidRequestError(f"{strange} cannot be changed", fix=", ".join(_MUTABLE))
        changes = {_MUTABLE[name]: text_of(wanted, name) for name in names}
        changed = await self._iam.accounts.update(
            account.email,
            display_name=changes.get("display_name"),
            description=changes.get("description"),
            actor=actor_of(request),
        )
        return JSONResponse(changed.to_document())

    async def delete(self, request: Request) -> Response:
        account = await account_of(request, self._iam)
        await self._iam.accounts.delete(account.email, actor=actor_of(request))
        return JSONResponse({})

    async def disable(self, request: Request) -> Response:
        return await self._set_disabled(request, disabled=True)

    async def enable(self, request: Request) -> Response:
        return await self._set_disabled(request, disabled=False)

    async def _set_disabled(self, request: Request, *, disabled: bool) -> Response:
        account = await account_of(request, self._iam)
        await self._iam.accounts.update(account.email, disabled=disabled, actor=actor_of(request))
        return JSONResponse({})

    async def generate_access_token(self, request: Request) -> Response:
        """An access token of the account for who may have it; scopes are not looked at: roles decide."""
        email = request.path_params["account"].lower()
        principal = service_account(email)
        if not is_agent(email):
            await account_of(request, self._iam)
        return await token_response(self._iam, principal, request)

    # Keys

    async def create_key(self, request: Request) -> Response:
        body = await read_body(request)
        if text_of(body, "privateKeyType") not in (
            "",
            "TYPE_GOOGLE_CREDENTIALS_FILE",
            "TYPE_UNSPECIFIED",
        ):
            raise InvalidRequestError(
                f"privateKeyType: {body['privateKeyType']} is not made here",
                fix="TYPE_GOOGLE_CREDENTIALS_FILE",
            )
        document = await self._iam.keys.create(
            await account_of(request, self._iam),
            algorithm=_algorithm(text_of(body, "keyAlgorithm")),
            server=_server_of(request),
            actor=actor_of(request),
        )
        return JSONResponse(document)

    async def list_keys(self, request: Request) -> Response:
        account = await account_of(request, self._iam)
        keys = await self._iam.keys.list(account.email)
        return JSONResponse({"keys": [key.to_document() for key in keys]})

    async def get_key(self, request: Request) -> Response:
        account = await account_of(request, self._iam)
        key = await self._iam.keys.get(account.email, request.path_params["key"])
        document = key.to_document()
        if request.query_params.get("publicKeyType") == "TYPE_RAW_PUBLIC_KEY":
            document["publicKeyData"] = base64.b64encode(key.public_key.encode()).decode()
        return JSONResponse(document)

    async def delete_key(self, request: Request) -> Response:
        account = await account_of(request, self._iam)
        await self._iam.keys.delete(
            account.email, request.path_params["key"], actor=actor_of(request)
        )
        return JSONResponse({})

    async def disable_key(self, request: Request) -> Response:
        return await self._set_key_disabled(request, disabled=True)

    async def enable_key(self, request: Request) -> Response:
        return await self._set_key_disabled(request, disabled=False)

    async def _set_key_disabled(self, request: Request, *, disabled: bool) -> Response:
        account = await account_of(request, self._iam)
        await self._iam.keys.set_disabled(
            account.email,
            request.path_params["key"],
            disabled=disabled,
            actor=actor_of(request),
        )
        return JSONResponse({})


async def token_response(iam: IamStore, principal: Principal, request: Request) -> Response:
    """`GenerateAccessTokenResponse` for a request whose body may have a `lifetime`."""
    body = await read_body(request)
    lifetime = text_of(body, "lifetime")
    seconds = parse_duration(lifetime, field="lifetime") if lifetime else DEFAULT_TOKEN_S
    token, expires_at = await iam.issue_access_token(
        principal, lifetime_s=int(seconds), actor=actor_of(request)
    )
    expires = datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return JSONResponse(
        {"accessToken": token, "expireTime": expires}, headers={"Cache-Control": "no-store"}
    )


def _algorithm(name: str) -> str:
    return "KEY_ALG_RSA_2048" if name in ("", "KEY_ALG_UNSPECIFIED") else name


def _server_of(request: Request) -> str:
    """The URL that a key file names: where the caller has come to, or for this machine's own users the installation's."""
    # HAProxy's, which alone reaches the other socket.
    scheme = request.headers.get("x-forwarded-proto")
    if scheme is None:
        server: str = request.app.state.server
        return server
    return f"{scheme}://{request.headers.get('host', '')}"


def _camel(name: str) -> str:
    """A mask's path in JSON's spelling: `display_name` is `displayName`."""
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)
