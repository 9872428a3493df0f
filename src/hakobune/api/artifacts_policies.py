"""Artifact Registry's methods on a repository's IAM policy: read, replaced under its etag, asked about."""

from __future__ import annotations

from hakobune.api.artifacts_context import Call, JsonObject, Registry
from hakobune.api.iam_policies import get_policy, set_policy, test_permissions


class Policies:
    """One method an RPC."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def get(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        return await get_policy(self._registry.iam, stored.resource)

    async def set(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        return await set_policy(self._registry.iam, stored.resource, call.body, actor=call.actor)

    async def test(self, call: Call) -> JsonObject:
        """Which of the permissions the caller has. Everybody may ask, also about what does not exist."""
        resource = str(call.repository)
        return await test_permissions(self._registry.iam, resource, call.body, caller=call.caller)
