"""Groups over REST, in the words of Cloud Identity v1 (`groups`, `memberships`), named by their addresses.

Cloud Identity has opaque names and `:lookup`, and answers changes by operations; here `groups/EMAIL` is the name, and a change is
done when it is answered.
"""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hakobune.api.artifacts_context import read_body
from hakobune.api.iam_call import JsonObject, actor_of, object_of, page_of, text_of
from hakobune.iam.group_store import Group
from hakobune.iam.store import IamStore


class Groups:
    """One method an RPC."""

    def __init__(self, iam: IamStore) -> None:
        self._iam = iam

    async def create(self, request: Request) -> Response:
        body = await read_body(request)
        group = await self._iam.groups.create(
            text_of(object_of(body, "groupKey"), "id"),
            display_name=text_of(body, "displayName"),
            description=text_of(body, "description"),
            actor=actor_of(request),
        )
        return JSONResponse(_group(group))

    async def list(self, request: Request) -> Response:
        size, after = page_of(request)
        found = await self._iam.groups.list(limit=size + 1, after=after)
        document: JsonObject = {"groups": [_group(group) for group in found[:size]]}
        if len(found) > size:
            document["nextPageToken"] = found[size - 1].email
        return JSONResponse(document)

    async def get(self, request: Request) -> Response:
        return JSONResponse(_group(await self._iam.groups.get(request.path_params["group"])))

    async def lookup(self, request: Request) -> Response:
        email = request.query_params.get("groupKey.id", "")
        return JSONResponse({"name": (await self._iam.groups.get(email)).resource})

    async def delete(self, request: Request) -> Response:
        await self._iam.groups.delete(request.path_params["group"], actor=actor_of(request))
        return JSONResponse({})

    async def add_member(self, request: Request) -> Response:
        body = await read_body(request)
        group = request.path_params["group"]
        member = text_of(object_of(body, "preferredMemberKey"), "id")
        await self._iam.groups.add_member(group, member, actor=actor_of(request))
        return JSONResponse(_membership(group.lower(), member.lower()))

    async def list_members(self, request: Request) -> Response:
        group = request.path_params["group"]
        members = await self._iam.groups.members(group)
        return JSONResponse({"memberships": [_membership(group.lower(), m) for m in members]})

    async def remove_member(self, request: Request) -> Response:
        await self._iam.groups.remove_member(
            request.path_params["group"],
            request.path_params["member"],
            actor=actor_of(request),
        )
        return JSONResponse({})


def _group(group: Group) -> JsonObject:
    created = datetime.fromtimestamp(group.created_at // 1_000_000, UTC)
    document = {
        "name": group.resource,
        "groupKey": {"id": group.email},
        "displayName": group.display_name,
        "description": group.description,
        "createTime": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {key: value for key, value in document.items() if value}


def _membership(group: str, member: str) -> JsonObject:
    return {
        "name": f"groups/{group}/memberships/{member}",
        "preferredMemberKey": {"id": member},
        "roles": [{"name": "MEMBER"}],
    }
