"""As much of Secret Manager v1 as Artifact Registry's upstream passwords need: secrets and their versions.

Only the owner of the installation uses them: whoever could name a secret in a repository could send it anywhere.
"""

from __future__ import annotations

import base64
import binascii

from hakobune.api.artifacts_context import Call, JsonObject, Registry, listing
from hakobune.api.artifacts_listing import cut_page
from hakobune.api.artifacts_repository import timestamp
from hakobune.registry.secret_store import SecretVersion, check_secret_name, secret_name
from hakobune.serving.errors import InvalidArgumentError, NotFoundError


class Secrets:
    """One method an RPC. A secret without a version is not kept, and exists as soon as it is named."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, call: Call) -> JsonObject:
        versions = await self._registry.secrets.versions(call.ids["project"])
        oldest = {version.secret: version for version in versions}
        page = cut_page(
            [_secret(version) for version in oldest.values()],
            call.list_request,
            record=lambda item: item,
            filters=("name",),
            orders=(),
        )
        return listing("secrets", list(page.items), page.next_token)

    async def create(self, call: Call) -> JsonObject:
        name = secret_name(call.ids["project"], call.parameter("secretId"))
        check_secret_name(name)
        return {"name": name, "replication": {"automatic": {}}}

    async def get(self, call: Call) -> JsonObject:
        return _secret((await self._versions(call))[-1])

    async def delete(self, call: Call) -> JsonObject:
        await self._registry.secrets.delete(call.ids["project"], call.ids["secret"], call.actor)
        return {}

    async def add_version(self, call: Call) -> JsonObject:
        try:
            payload = base64.b64decode(call.body["payload"]["data"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise InvalidArgumentError(
                "it is no base64", field="payload.data", why="the secret's bytes travel as base64"
            ) from None
        name = secret_name(call.ids["project"], call.ids["secret"])
        return _version(await self._registry.secrets.add(name, payload, call.actor))

    async def list_versions(self, call: Call) -> JsonObject:
        page = cut_page(
            [_version(version) for version in await self._versions(call)],
            call.list_request,
            record=lambda item: item,
            filters=("name", "state"),
            orders=("createTime",),
        )
        return listing("versions", list(page.items), page.next_token)

    async def get_version(self, call: Call) -> JsonObject:
        return _version(await self._version(call))

    async def access_version(self, call: Call) -> JsonObject:
        version = await self._version(call)
        payload = await self._registry.secrets.read(version.name)
        return {"name": version.name, "payload": {"data": base64.b64encode(payload).decode()}}

    async def destroy_version(self, call: Call) -> JsonObject:
        version = await self._version(call)
        await self._registry.secrets.destroy(
            version.project, version.secret, version.version, call.actor
        )
        return _version(await self._version(call))

    async def _versions(self, call: Call) -> tuple[SecretVersion, ...]:
        project, secret = call.ids["project"], call.ids["secret"]
        versions = await self._registry.secrets.versions(project, secret)
        if not versions:
            raise NotFoundError(
                f"there is no secret {secret_name(project, secret)}",
                fix=f"hako secrets versions add {secret} --data-file=FILE --project={project}",
            )
        return versions

    async def _version(self, call: Call) -> SecretVersion:
        versions = await self._versions(call)
        wanted = call.ids["version"]
        for version in versions:
            if wanted in ("latest", str(version.version)):
                return version
        raise NotFoundError(
            f"there is no {secret_name(call.ids['project'], call.ids['secret'])}/versions/{wanted}"
        )


def _secret(oldest: SecretVersion) -> JsonObject:
    return {
        "name": secret_name(oldest.project, oldest.secret),
        "replication": {"automatic": {}},
        "createTime": timestamp(oldest.created_at),
    }


def _version(version: SecretVersion) -> JsonObject:
    return {
        "name": version.name,
        "createTime": timestamp(version.created_at),
        "state": "DESTROYED" if version.destroyed else "ENABLED",
    }
