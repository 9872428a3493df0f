"""Artifact Registry's methods on packages and versions: an image by name is a package, a manifest a version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from hakobune.api.artifacts_context import EMPTY, PROTO, Call, JsonObject, Registry, list_rows
from hakobune.api.artifacts_documents import Package, Version
from hakobune.api.artifacts_mask import apply_mask
from hakobune.api.artifacts_names import RepositoryName, escape_id, image_of
from hakobune.api.artifacts_views import package_document, version_document
from hakobune.errors import HakoError
from hakobune.registry import metadata_packages as rows
from hakobune.registry.manifest import check_digest
from hakobune.registry.repository import Repository
from hakobune.serving.document import read_document, write_document
from hakobune.serving.errors import InvalidArgumentError, NotFoundError

FULL = ("FULL", "2")
MAX_BATCH = 10_000
_FIXED = ("name", "displayName", "description")

Found = Mapping[str, tuple[Mapping[str, str], int]]


class Packages:
    """One method an RPC."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, call: Call) -> JsonObject:
        name = call.repository
        stored = await self._registry.repository(name)
        annotations = living(await self._registry.store.all_annotations(stored.id, "packages/"))

        def document(row: rows.Package) -> JsonObject:
            of = annotations(package_resource(row.image), row.created_at)
            return write_document(package_document(name, row, of))

        return await list_rows(
            call,
            "packages",
            partial(self._registry.metadata.list_packages, stored),
            key=lambda row: row.image,
            document=document,
            filters=("name", "annotations"),
            orders=("createTime", "updateTime"),
        )

    async def get(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        return write_document(await self._document(call, stored))

    async def update(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        current = await self._document(call, stored)
        sent = read_document(call.body, Package)
        changed = apply_mask(
            current, sent, call.parameter("updateMask"), settable=("annotations",), fixed=_FIXED
        )
        resource = package_resource(image_of(call.ids["package"]))
        await self._registry.store.set_annotations(stored.id, resource, changed.annotations)
        return write_document(changed)

    async def delete(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        image = image_of(call.ids["package"])
        await self._registry.metadata.delete_image(stored, image, call.actor)
        await self._registry.store.drop_annotations(stored.id, package_resource(image) + "/")
        return await self._registry.finished(call.parent, EMPTY)

    async def _document(self, call: Call, stored: Repository) -> Package:
        image = image_of(call.ids["package"])
        row = await self._registry.metadata.find_package(stored, image)
        if row is None:
            raise package_unknown(call.repository, image)
        resource = package_resource(image)
        of = await self._registry.store.annotations(stored.id, resource, since=row.created_at)
        return package_document(call.repository, row, of)


class Versions:
    """One method an RPC."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, call: Call) -> JsonObject:
        name = call.repository
        stored, image = await package_of(self._registry, call)
        prefix = package_resource(image) + "/"
        annotations = living(await self._registry.store.all_annotations(stored.id, prefix))
        full = call.parameter("view") in FULL

        def document(row: rows.Version) -> JsonObject:
            of = annotations(version_resource(row.image, row.digest), row.created_at)
            return write_document(version_document(name, row, of, full=full))

        return await list_rows(
            call,
            "versions",
            partial(self._registry.metadata.list_versions, stored, image),
            key=lambda row: row.key,
            document=document,
            filters=("name", "annotations"),
            orders=("createTime", "updateTime"),
        )

    async def get(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        full = call.parameter("view") in FULL
        return write_document(await self._document(call, stored, full=full))

    async def update(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        current = await self._document(call, stored, full=True)
        changed = apply_mask(
            current,
            read_document(call.body, Version),
            call.parameter("updateMask"),
            settable=("annotations",),
            fixed=_FIXED,
        )
        resource = version_resource(image_of(call.ids["package"]), call.ids["version"])
        await self._registry.store.set_annotations(stored.id, resource, changed.annotations)
        return write_document(changed)

    async def delete(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        image, digest = image_of(call.ids["package"]), check_digest(call.ids["version"])
        await self._registry.metadata.delete_manifest(
            stored, image, digest, call.actor, even_tagged=call.flag("force")
        )
        await self._registry.store.drop_annotations(stored.id, version_resource(image, digest))
        return await self._registry.finished(call.parent, EMPTY)

    async def batch_delete(self, call: Call) -> JsonObject:
        """Delete several versions without tags; those that stay are named in the operation's metadata."""
        stored = await self._registry.repository(call.repository)
        image = image_of(call.ids["package"])
        wanted = [self._digest(call, image, name) for name in _names(call.body)]
        failed: list[str] = []
        for digest in wanted:
            found = await self._registry.metadata.find_version(stored, image, digest)
            if found is None:
                raise version_unknown(call.repository, image, digest)
            if call.body.get("validateOnly"):
                continue
            try:
                await self._registry.metadata.delete_manifest(
                    stored, image, digest, call.actor, even_tagged=False
                )
            except HakoError:
                failed.append(call.repository.version(image, digest))
        metadata = {
            "@type": PROTO + "BatchDeleteVersionsMetadata",
            **({"failedVersions": failed} if failed else {}),
        }
        return await self._registry.finished(call.parent, EMPTY, metadata=metadata)

    def _digest(self, call: Call, image: str, name: str) -> str:
        prefix = f"{call.repository.package(image)}/versions/"
        if not name.startswith(prefix):
            raise InvalidArgumentError(f"{name!r} is no version of {prefix[:-10]}", field="names")
        return check_digest(name.removeprefix(prefix))

    async def _document(self, call: Call, stored: Repository, *, full: bool) -> Version:
        image, digest = image_of(call.ids["package"]), call.ids["version"]
        row = await self._registry.metadata.find_version(stored, image, digest)
        if row is None:
            raise version_unknown(call.repository, image, digest)
        resource = version_resource(image, digest)
        of = await self._registry.store.annotations(stored.id, resource, since=row.created_at)
        return version_document(call.repository, row, of, full=full)


async def package_of(registry: Registry, call: Call) -> tuple[Repository, str]:
    """The repository and the image that a call names.

    Raises:
        NotFoundError: one of them is not there.
    """
    stored, image = await registry.repository(call.repository), image_of(call.ids["package"])
    if not await registry.metadata.has_image(stored, image):
        raise package_unknown(call.repository, image)
    return stored, image


def living(found: Found) -> Callable[[str, int], Mapping[str, str]]:
    """Annotations of a resource, unless they were set on another of its name before it was made."""

    def of(resource: str, made_at: int) -> Mapping[str, str]:
        annotations, set_at = found.get(resource, ({}, 0))
        return annotations if set_at >= made_at else {}

    return of


def package_resource(image: str) -> str:
    return f"packages/{escape_id(image)}"


def version_resource(image: str, digest: str) -> str:
    return f"{package_resource(image)}/versions/{digest}"


def package_unknown(name: RepositoryName, image: str) -> NotFoundError:
    return NotFoundError(
        f"there is no package {name.package(image)}", why="no image of that name was pushed"
    )


def version_unknown(name: RepositoryName, image: str, digest: str) -> NotFoundError:
    return NotFoundError(f"there is no version {name.version(image, digest)}")


def _names(body: JsonObject) -> list[str]:
    names = body.get("names")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise InvalidArgumentError("the versions to delete are not named", field="names")
    if len(names) > MAX_BATCH:
        raise InvalidArgumentError(f"{len(names)} versions are too many", field="names", why=f"{MAX_BATCH} at most")  # fmt: skip
    return list(dict.fromkeys(names))
