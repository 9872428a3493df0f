"""Artifact Registry's methods on repositories: made and deleted by operations, changed under a mask."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from weakref import WeakValueDictionary

from hakobune.api.artifacts_context import EMPTY, PROTO, Call, JsonObject, Registry, listing
from hakobune.api.artifacts_documents import Repository
from hakobune.api.artifacts_listing import cut_page
from hakobune.api.artifacts_mask import apply_mask
from hakobune.api.artifacts_names import RepositoryName, check_place, check_repository_id
from hakobune.api.artifacts_repository import to_stored, to_wire
from hakobune.api.artifacts_validate import (
    FIXED,
    SETTABLE,
    check_repository,
    check_upstream_unchanged,
)
from hakobune.api.caller import OWNER_ONLY, require
from hakobune.iam.policy_store import drop_policy
from hakobune.iam.roles import PULL
from hakobune.registry import repository as rows
from hakobune.registry.errors import ResourceError
from hakobune.registry.upstream_password import seal_password
from hakobune.serving.document import read_document, write_document
from hakobune.serving.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
)
from hakobune.state.sql import Transaction

ANY_LOCATION = "-"
_ATTEMPTS = 5  # of a change that others change, too


class Repositories:
    """One method an RPC."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        # Changes of one repository queue here; those of other processes are met by its etag.
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def list(self, call: Call) -> JsonObject:
        location = call.ids["location"]
        found = await self._registry.metadata.list_repositories(
            call.ids["project"], "" if location == ANY_LOCATION else location
        )
        page = cut_page(
            found,
            call.list_request,
            record=_record,
            filters=("name",),
            orders=("createTime", "updateTime", "format", "mode"),
        )
        documents = [write_document(d) for d in await self._documents(page.items)]
        return listing("repositories", documents, page.next_token)

    async def get(self, call: Call) -> JsonObject:
        return await self._document(await self._registry.repository(call.repository))

    async def create(self, call: Call) -> JsonObject:
        project, location = call.ids["project"], call.ids["location"]
        check_place(project, location)
        identifier = call.parameter("repositoryId")
        check_repository_id(identifier)
        name = RepositoryName(project, location, identifier)
        document = check_repository(read_document(call.body, Repository), name)
        wanted = await self._with_password(to_stored(document), call)
        await self._check_sources(wanted, call, probe=True)
        made = await self._registry.metadata.create_repository(wanted, call.actor)
        response = {"@type": PROTO + "Repository", **await self._document(made)}
        return await self._registry.finished(call.parent, response)

    async def update(self, call: Call) -> JsonObject:
        sent = read_document(call.body, Repository)
        async with self._changing.setdefault(str(call.repository), asyncio.Lock()):
            return await self._change(call, sent, call.parameter("updateMask"))

    async def _change(self, call: Call, sent: Repository, mask: str) -> JsonObject:
        for attempt in range(_ATTEMPTS):
            stored = await self._registry.repository(call.repository)
            before = to_wire(stored, size_bytes=0, registry_host=self._registry.host)
            wanted = apply_mask(before, sent, mask, settable=SETTABLE, fixed=FIXED)
            wanted = check_repository(wanted, call.repository)
            check_upstream_unchanged(
                before.remote_repository_config, wanted.remote_repository_config
            )
            row = await self._with_password(to_stored(wanted, stored), call)
            new_password = bool(row.remote and stored.remote and row.remote.password != stored.remote.password)  # fmt: skip
            await self._check_sources(row, call, probe=new_password)
            try:
                changed = await self._registry.metadata.update_repository(
                    row, call.actor, etag=stored.etag
                )
            except ResourceError as error:
                # Somebody else was in between: the mask is applied to what is there now.
                if error.status != "ABORTED" or attempt == _ATTEMPTS - 1:
                    raise
                continue
            return await self._document(changed)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def delete(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        await self._check_unused(stored)

        async def also(transaction: Transaction) -> None:
            await drop_policy(transaction, stored.resource)

        await self._registry.metadata.delete_repository(stored, call.actor, also=also)
        await self._registry.store.drop_annotations(stored.id)
        return await self._registry.finished(call.parent, EMPTY)

    async def _document(self, stored: rows.Repository) -> JsonObject:
        [document] = await self._documents((stored,))
        return write_document(document)

    async def _documents(self, found: tuple[rows.Repository, ...]) -> tuple[Repository, ...]:
        sizes = await self._registry.metadata.sizes(found)
        return tuple(
            to_wire(stored, size_bytes=sizes[stored.id], registry_host=self._registry.host)
            for stored in found
        )

    async def _with_password(self, row: rows.Repository, call: Call) -> rows.Repository:
        """*row* with the password of its secret's version, read now and sealed for this repository alone."""
        remote = row.remote
        if remote is None or remote.password or not remote.password_secret_version:
            return row
        project = remote.password_secret_version.split("/")[1:2]
        if project != [row.project]:
            raise InvalidArgumentError(
                f"{remote.password_secret_version!r} is no secret's version of project {row.project}",
                field="remoteRepositoryConfig.upstreamCredentials.usernamePasswordCredentials.passwordSecretVersion",
                fix=f"projects/{row.project}/secrets/SECRET/versions/latest",
            )
        # Whoever sets the upstream could otherwise have any secret sent to a host of his own.
        await require(self._registry.iam, call.caller, OWNER_ONLY, row.resource)
        payload = await self._registry.secrets.read(remote.password_secret_version)
        password = payload.decode(errors="replace").rstrip("\n")
        sealed = seal_password(self._registry.box, row.resource, password)
        return replace(row, remote=replace(remote, password=sealed))

    async def _check_sources(self, row: rows.Repository, call: Call, *, probe: bool) -> None:
        """Upstreams that are repositories here exist and may be read by the caller; a registry answers as one."""
        for place, policy in enumerate(row.upstream_policies):
            field = f"virtualRepositoryConfig.upstreamPolicies[{place}].repository"
            await self._check_member(row, policy.repository, field, call)
        if row.remote and probe and not row.remote.disable_upstream_validation:
            await self._registry.check_upstream(row)

    async def _check_member(
        self, row: rows.Repository, resource: str, field: str, call: Call
    ) -> None:
        name = RepositoryName.parse(resource, field=field)
        verdict = await self._registry.iam.check(call.caller, PULL, resource)
        found = await self._registry.metadata.find_repository(name.project, name.repository)
        if not verdict.allowed or found is None or found.location != name.location:
            raise InvalidArgumentError(
                f"there is no repository {resource}, or {call.caller} may not read it", field=field
            )
        if found.mode is rows.Mode.VIRTUAL:
            raise InvalidArgumentError(
                f"{resource} is a virtual repository itself",
                field=field,
                why="a virtual repository's upstreams are standard and remote ones",
                fix="name its upstreams here",
            )

    async def _check_unused(self, stored: rows.Repository) -> None:
        """A virtual repository would lose a source without anybody seeing it."""
        for other in await self._registry.metadata.list_repositories():
            if any(policy.repository == stored.resource for policy in other.upstream_policies):
                raise FailedPreconditionError(
                    f"{stored.resource} is an upstream of {other.resource}",
                    fix="take it out of that repository's upstream policies first",
                )


def _record(stored: rows.Repository) -> JsonObject:
    return {
        "name": stored.resource,
        "createTime": stored.created_at,
        "updateTime": stored.updated_at,
        "format": stored.format,
        "mode": stored.mode.value,
    }
