"""Artifact Registry's methods on a repository's IAM policy: read, replaced under its etag, asked about."""

from __future__ import annotations

from hakobune.api.artifacts_context import Call, JsonObject, Registry
from hakobune.iam.policy import read_policy
from hakobune.iam.resource import ResourceKind
from hakobune.serving.errors import InvalidArgumentError


class Policies:
    """One method an RPC."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def get(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        return (await self._registry.iam.policies.get(stored.resource)).to_document()

    async def set(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        document = call.body.get("policy")
        policy = read_policy(document, ResourceKind.REPOSITORY)
        etag = document.get("etag", "") if isinstance(document, dict) else ""
        if not isinstance(etag, str):
            raise InvalidArgumentError("it is no text", field="policy.etag")
        set_ = await self._registry.iam.policies.set(
            stored.resource, policy, etag=etag, actor=call.actor
        )
        return set_.to_document()

    async def test(self, call: Call) -> JsonObject:
        """Which of the permissions the caller has. Everybody may ask, also about what does not exist."""
        asked = call.body.get("permissions", [])
        if not isinstance(asked, list) or not all(isinstance(p, str) for p in asked):
            raise InvalidArgumentError("it is no list of texts", field="permissions")
        if wild := [permission for permission in asked if "*" in permission]:
            raise InvalidArgumentError(f"{wild[0]!r} is no permission", field="permissions")
        resource = str(call.repository)
        held = [
            permission
            for permission in asked
            if (await self._registry.iam.check(call.caller, permission, resource)).allowed
        ]
        return {"permissions": held} if held else {}
