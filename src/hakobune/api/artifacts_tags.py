"""Artifact Registry's methods on tags: what a name of an image stands for, moved and removed."""

from __future__ import annotations

from functools import partial

from hakobune.api.artifacts_context import Call, JsonObject, Registry, list_rows, listing
from hakobune.api.artifacts_documents import Tag
from hakobune.api.artifacts_mask import apply_mask
from hakobune.api.artifacts_names import image_of
from hakobune.api.artifacts_packages import package_of, package_unknown
from hakobune.api.artifacts_repository import timestamp
from hakobune.api.artifacts_views import tag_document
from hakobune.registry import metadata_packages as rows
from hakobune.registry.manifest import TAG, check_digest
from hakobune.registry.repository import Mode, Repository
from hakobune.serving.document import read_document, write_document
from hakobune.serving.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)


class Tags:
    """One method an RPC."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, call: Call) -> JsonObject:
        stored, image = await package_of(self._registry, call)
        return await list_rows(
            call,
            "tags",
            partial(self._registry.metadata.list_tag_rows, stored, image),
            key=lambda row: row.name,
            document=lambda row: write_document(tag_document(call.repository, row)),
            filters=("name", "version"),
            orders=("version",),
        )

    async def get(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        return write_document(tag_document(call.repository, await self._find(call, stored)))

    async def create(self, call: Call) -> JsonObject:
        stored = await self._own_tags(call)
        image, tag = image_of(call.ids["package"]), call.parameter("tagId")
        _check_tag(tag, field="tagId")
        digest = self._digest(call, read_document(call.body, Tag))
        if await self._registry.metadata.find_tag(stored, image, tag) is not None:
            raise AlreadyExistsError(
                f"there is a tag {call.repository.tag(image, tag)} already",
                fix="PATCH it to move it",
            )
        await self._registry.metadata.put_tag(stored, image, tag, digest, call.actor)
        return self._document(call, tag, digest)

    async def update(self, call: Call) -> JsonObject:
        """Move a tag to another version."""
        stored = await self._own_tags(call)
        current = tag_document(call.repository, await self._find(call, stored))
        wanted = apply_mask(
            current,
            read_document(call.body, Tag),
            call.parameter("updateMask"),
            settable=("version",),
            fixed=("name",),
        )
        digest = self._digest(call, wanted)
        image, tag = image_of(call.ids["package"]), call.ids["tag"]
        await self._registry.metadata.put_tag(stored, image, tag, digest, call.actor)
        return self._document(call, tag, digest)

    async def delete(self, call: Call) -> JsonObject:
        stored = await self._own_tags(call)
        await self._find(call, stored)
        image = image_of(call.ids["package"])
        await self._registry.metadata.delete_tag(stored, image, call.ids["tag"], call.actor)
        return {}

    async def history(self, call: Call) -> JsonObject:
        """What a tag (or every tag of the package) has named, newest first: an extension, and no pages."""
        name, image = call.repository, image_of(call.ids["package"])
        stored = await self._registry.repository(name)
        tag = call.parameter("tag")
        if tag:
            _check_tag(tag, field="tag")
        found = await self._registry.metadata.tag_history(
            stored, image, tag, limit=call.list_request.size
        )
        if not found and not await self._registry.metadata.has_image(stored, image):
            raise package_unknown(name, image)
        changes = [
            {
                "tag": name.tag(image, change.name),
                **({"version": name.version(image, change.digest)} if change.digest else {}),
                "time": timestamp(change.at),
                "actor": change.actor,
            }
            for change in found
        ]
        return listing("tagChanges", changes, "")

    async def _own_tags(self, call: Call) -> Repository:
        """The repository, if its tags are its own to set."""
        stored = await self._registry.repository(call.repository)
        if stored.mode is not Mode.STANDARD:
            raise FailedPreconditionError(
                f"tags of the {stored.mode} repository {stored.resource} cannot be set",
                why="they are its upstreams'",
            )
        return stored

    async def _find(self, call: Call, stored: Repository) -> rows.Tag:
        image, tag = image_of(call.ids["package"]), call.ids["tag"]
        found = await self._registry.metadata.find_tag(stored, image, tag)
        if found is None:
            raise NotFoundError(
                f"there is no tag {call.repository.tag(image, tag)}",
                fix="hako artifacts docker tags list "
                f"{self._registry.host}/{call.repository.project}/{call.repository.repository}/{image}",
            )
        return found

    def _digest(self, call: Call, tag: Tag) -> str:
        """The digest that a tag's `version` names; of this package alone."""
        prefix = f"{call.repository.package(image_of(call.ids['package']))}/versions/"
        if not tag.version.startswith(prefix):
            raise InvalidArgumentError(
                f"{tag.version!r} is no version of the tag's package",
                field="version",
                fix=f"{prefix}sha256:…",
            )
        return check_digest(tag.version.removeprefix(prefix))

    def _document(self, call: Call, tag: str, digest: str) -> JsonObject:
        image = image_of(call.ids["package"])
        made = Tag(name=call.repository.tag(image, tag), version=call.repository.version(image, digest))  # fmt: skip
        return write_document(made)


def _check_tag(tag: str, *, field: str) -> None:
    if not TAG.fullmatch(tag):
        raise InvalidArgumentError(
            f"{tag!r} is no tag",
            field=field,
            why="a tag has up to 128 letters, digits and . _ -, the first no . or -",
        )
