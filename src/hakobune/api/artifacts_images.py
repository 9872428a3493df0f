"""Artifact Registry's methods on dockerImages and files: other views of manifests and blobs."""

from __future__ import annotations

from functools import partial

from hakobune.api.artifacts_context import EMPTY, Call, JsonObject, Registry, list_rows
from hakobune.api.artifacts_documents import File
from hakobune.api.artifacts_mask import apply_mask
from hakobune.api.artifacts_names import image_of, split_image
from hakobune.api.artifacts_packages import living
from hakobune.api.artifacts_views import file_document, image_document
from hakobune.registry import metadata_packages as rows
from hakobune.registry.manifest import check_digest
from hakobune.registry.repository import Mode, Repository
from hakobune.serving.document import read_document, write_document
from hakobune.serving.errors import NotFoundError


class Images:
    """One method an RPC; one DockerImage a manifest."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, call: Call) -> JsonObject:
        name = call.repository
        stored = await self._registry.repository(name)

        def document(row: rows.Version) -> JsonObject:
            return write_document(image_document(name, row, registry_host=self._registry.host))

        return await list_rows(
            call,
            "dockerImages",
            partial(self._registry.metadata.list_versions, stored),
            key=lambda row: row.key,
            document=document,
            filters=("name",),
            orders=("uploadTime", "updateTime", "buildTime", "imageSizeBytes", "mediaType"),
        )

    async def get(self, call: Call) -> JsonObject:
        name = call.repository
        stored = await self._registry.repository(name)
        image, digest = split_image(call.ids["image"], field="name")
        row = await self._registry.metadata.find_version(stored, image, digest)
        if row is None:
            raise NotFoundError(f"there is no image {name.docker_image(image, digest)}")
        return write_document(image_document(name, row, registry_host=self._registry.host))


class Files:
    """One method an RPC; one file a blob."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, call: Call) -> JsonObject:
        name = call.repository
        stored = await self._registry.repository(name)
        owners = await self._registry.store.file_owners(stored.id)
        annotations = living(await self._registry.store.all_annotations(stored.id, "files/"))

        def document(row: rows.StoredFile) -> JsonObject:
            of = annotations(f"files/{row.digest}", row.linked_at)
            shown = file_document(
                name, row, owners.get(row.digest, ()), of, is_cache=stored.mode is Mode.REMOTE
            )
            return write_document(shown)

        def record(row: rows.StoredFile) -> JsonObject:
            every = [name.version(*owner) for owner in owners.get(row.digest, ())]
            packages = [name.package(image) for image, _ in owners.get(row.digest, ())]
            return {**document(row), "owner": [*every, *packages]}

        return await list_rows(
            call,
            "files",
            partial(self._registry.metadata.list_files, stored),
            key=lambda row: row.digest,
            document=document,
            record=record,
            filters=("name", "owner", "annotations"),
            orders=("createTime", "updateTime", "sizeBytes"),
        )

    async def get(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        return write_document(await self._document(call, stored))

    async def update(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        current = await self._document(call, stored)
        changed = apply_mask(
            current,
            read_document(call.body, File),
            call.parameter("updateMask"),
            settable=("annotations",),
            fixed=("name",),
        )
        resource = f"files/{image_of(call.ids['file'])}"
        await self._registry.store.set_annotations(stored.id, resource, changed.annotations)
        return write_document(changed)

    async def delete(self, call: Call) -> JsonObject:
        """Take a blob out of the repository, if no manifest names it."""
        stored = await self._registry.repository(call.repository)
        digest = check_digest(image_of(call.ids["file"]))
        await self._registry.metadata.unlink_blob(stored, "", digest, call.actor)
        return await self._registry.finished(call.parent, EMPTY)

    async def _document(self, call: Call, stored: Repository) -> File:
        digest = image_of(call.ids["file"])
        row = await self._find(stored, digest)
        if row is None:
            raise NotFoundError(f"there is no file {call.repository.file(digest)}")
        owners = await self._registry.store.file_owners(stored.id)
        of = await self._registry.store.annotations(
            stored.id, f"files/{digest}", since=row.linked_at
        )
        return file_document(
            call.repository, row, owners.get(digest, ()), of, is_cache=stored.mode is Mode.REMOTE
        )

    async def _find(self, stored: Repository, digest: str) -> rows.StoredFile | None:
        """The row of a blob: the first after what comes just before it."""
        before = digest[:-1] + chr(ord(digest[-1]) - 1) + "\U0010ffff" if digest else ""
        found = await self._registry.metadata.list_files(stored, after=before, limit=1)
        return next((row for row in found if row.digest == digest), None)
