"""Quotas of bytes on projects and repositories: `…/storageQuotas`, an extension, since Google keeps quotas elsewhere.

Whoever owns the installation sets them; who administers a repository cannot lift its limit.
"""

from __future__ import annotations

from hakobune.api.artifacts_context import Call, JsonObject, Registry, listing
from hakobune.api.artifacts_listing import cut_page
from hakobune.registry.quota import Quota, list_quotas, set_quota
from hakobune.serving.errors import InvalidArgumentError


class Quotas:
    """One method an RPC."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, call: Call) -> JsonObject:
        """The project's own and those of its repositories, each with what is used of it."""
        found = await list_quotas(self._registry.metadata.sql, call.ids["project"])
        page = cut_page(
            [_document(quota) for quota in found],
            call.list_request,
            record=lambda item: item,
            filters=("name",),
            orders=("limitBytes", "usedBytes"),
        )
        return listing("storageQuotas", list(page.items), page.next_token)

    async def set_project(self, call: Call) -> JsonObject:
        return await self._set(call, f"projects/{call.ids['project']}")

    async def set_repository(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        return await self._set(call, stored.resource)

    async def _set(self, call: Call, resource: str) -> JsonObject:
        """Set the limit of the body, or take it away if there is none."""
        metadata = self._registry.metadata
        await set_quota(
            metadata.sql, resource, _limit(call.body), at=metadata.clock(), actor=call.actor
        )
        for quota in await list_quotas(metadata.sql, call.ids["project"]):
            if quota.resource == resource:
                return _document(quota)
        return {"name": f"{resource}/storageQuota"}


def _limit(body: JsonObject) -> int | None:
    text = body.get("limitBytes")
    if text is None:
        return None
    if not str(text).isdecimal() or int(text) >= 1 << 62:
        raise InvalidArgumentError(f"{text!r} is no number of bytes", field="limitBytes")
    return int(text)


def _document(quota: Quota) -> JsonObject:
    return {
        "name": f"{quota.resource}/storageQuota",
        "limitBytes": str(quota.limit_bytes),
        "usedBytes": str(quota.used_bytes),
    }
