"""Artifact Registry's methods on attachments: manifests with a subject, whether `oras` or `cosign` pushed them or this API made them."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from hakobune.api.artifacts_context import EMPTY, PROTO, Call, JsonObject, Registry, listing
from hakobune.api.artifacts_documents import Attachment
from hakobune.api.artifacts_listing import read_page
from hakobune.api.artifacts_names import RepositoryName, image_of, split_image
from hakobune.api.artifacts_views import attachment_document, attachment_id
from hakobune.registry import metadata_packages as rows
from hakobune.registry.blobs import commit_blob
from hakobune.registry.manifest import (
    OCI_MANIFEST,
    ChildKind,
    check_digest,
    digest_of,
    parse_manifest,
)
from hakobune.registry.repository import Mode, Repository
from hakobune.serving.document import read_document, write_document
from hakobune.serving.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)

EMPTY_CONFIG = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"  # image-spec "Guidance for an Empty Descriptor"
_ID = re.compile(r"[a-z]([a-z0-9._-]{0,61}[a-z0-9])?")
_PREFIX = "attachments/"

# Of an attachment that this API has made, by `IMAGE@DIGEST`: its id, and what a manifest has no place for.
Made = Mapping[str, Mapping[str, str]]


class Attachments:
    """One method an RPC. An attachment that was pushed has `IMAGE@DIGEST` as its id."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        made = await self._made(stored)

        async def fetch(after: str, limit: int) -> list[rows.Version]:
            """The next manifests with a subject; those without fill no page."""
            found: list[rows.Version] = []
            while len(found) < limit:
                part = await self._registry.metadata.list_versions(stored, after=after, limit=limit)
                found += (row for row in part if row.subject)
                if len(part) < limit:
                    break
                after = part[-1].key
            return found[:limit]

        def record(row: rows.Version) -> JsonObject:
            document = write_document(_document(call.repository, row, (), made))
            return {**document, "attachment_namespace": document.get("attachmentNamespace", "")}

        page = await read_page(
            fetch,
            call.list_request,
            key=lambda row: row.key,
            record=record,
            filters=("name", "target", "type", "attachmentNamespace", "attachment_namespace"),
            orders=("createTime", "updateTime"),
        )
        shown = [await self._whole(call, stored, row, made) for row in page.items]
        return listing("attachments", shown, page.next_token)

    async def get(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        made = await self._made(stored)
        return await self._whole(call, stored, await self._find(call, stored, made), made)

    async def create(self, call: Call) -> JsonObject:
        """Make a manifest of files that are there, with the target as its subject."""
        stored = await self._registry.repository(call.repository)
        if stored.mode is not Mode.STANDARD:
            raise FailedPreconditionError(f"nothing is pushed to the {stored.mode} repository {stored.resource}")  # fmt: skip
        identifier = call.parameter("attachmentId")
        if not _ID.fullmatch(identifier):
            raise InvalidArgumentError(
                f"{identifier!r} is no attachment's id",
                field="attachmentId",
                why="an id has lower-case letters, digits and -._, begins with a letter, ends with a letter or digit",
            )
        made = await self._made(stored)
        await self._check_free(call, stored, identifier, made)
        sent = read_document(call.body, Attachment)
        target = await self._target(call, stored, sent.target)
        body = await self._manifest(call, stored, sent, target)
        await self._put_empty_config(stored)
        put = await self._registry.metadata.put_manifest(
            stored, target.image, (digest_of(body),), body, OCI_MANIFEST, call.actor
        )
        key = f"{target.image}@{put.digest}"
        note = {"id": identifier, "namespace": sent.attachment_namespace}
        await self._registry.store.set_annotations(stored.id, _PREFIX + key, note)
        row = await self._registry.metadata.find_version(stored, target.image, put.digest)
        if row is None:
            raise NotFoundError(f"{call.repository.attachment(identifier)} was deleted just now")
        document = await self._whole(call, stored, row, {**made, key: note})
        response = {"@type": PROTO + "Attachment", **document}
        return await self._registry.finished(call.parent, response)

    async def delete(self, call: Call) -> JsonObject:
        stored = await self._registry.repository(call.repository)
        row = await self._find(call, stored, await self._made(stored))
        await self._registry.metadata.delete_manifest(stored, row.image, row.digest, call.actor)
        await self._registry.store.drop_annotations(stored.id, _PREFIX + row.key)
        return await self._registry.finished(call.parent, EMPTY)

    async def _made(self, stored: Repository) -> Made:
        found = await self._registry.store.all_annotations(stored.id, _PREFIX)
        return {name.removeprefix(_PREFIX): note for name, (note, _) in found.items()}

    async def _check_free(
        self, call: Call, stored: Repository, identifier: str, made: Made
    ) -> None:
        """Refuse an id that is taken; one whose manifest was deleted by other means is free again."""
        for key in [key for key, note in made.items() if note["id"] == identifier]:
            image, digest = split_image(key, field="name")
            if await self._registry.metadata.find_version(stored, image, digest) is not None:
                raise AlreadyExistsError(
                    f"there is {call.repository.attachment(identifier)} already"
                )
            await self._registry.store.drop_annotations(stored.id, _PREFIX + key)

    async def _find(self, call: Call, stored: Repository, made: Made) -> rows.Version:
        identifier = image_of(call.ids["attachment"])
        key = next((key for key, note in made.items() if note["id"] == identifier), identifier)
        row = None
        if "@" in key:
            image, digest = split_image(key, field="name")
            row = await self._registry.metadata.find_version(stored, image, digest)
        if row is None or not row.subject:
            wanted = call.repository.attachment(call.ids["attachment"])
            raise NotFoundError(f"there is no attachment {wanted}")
        return row

    async def _target(self, call: Call, stored: Repository, target: str) -> rows.Version:
        found = re.fullmatch(re.escape(f"{call.repository}/packages/") + r"([^/]+)/versions/([^/]+)", target)  # fmt: skip
        if found is None:
            raise InvalidArgumentError(
                f"{target!r} is no version of the repository",
                field="attachment.target",
                fix=call.repository.version("IMAGE", "sha256:…"),
            )
        image, digest = image_of(found[1]), check_digest(found[2])
        row = await self._registry.metadata.find_version(stored, image, digest)
        if row is None:
            raise NotFoundError(f"there is no version {target}")
        return row

    async def _manifest(
        self, call: Call, stored: Repository, sent: Attachment, target: rows.Version
    ) -> bytes:
        if not re.fullmatch(r"[\w.+-]+/[\w.+-]+", sent.type):
            raise InvalidArgumentError(f"{sent.type!r} is no media type", field="attachment.type")
        if not sent.files:
            raise InvalidArgumentError("an attachment has files", field="attachment.files")
        layers = [await self._layer(call, stored, name) for name in sent.files]
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": sent.type,
            "config": {
                "mediaType": EMPTY_TYPE,
                "digest": digest_of(EMPTY_CONFIG),
                "size": len(EMPTY_CONFIG),
            },
            "layers": layers,
            "subject": {
                "mediaType": target.media_type,
                "digest": target.digest,
                "size": target.size,
            },
            **({"annotations": sent.annotations} if sent.annotations else {}),
        }
        return json.dumps(document, separators=(",", ":")).encode()

    async def _layer(self, call: Call, stored: Repository, name: str) -> JsonObject:
        prefix = f"{call.repository}/files/"
        if not name.startswith(prefix):
            raise InvalidArgumentError(
                f"{name!r} is no file of the repository", field="attachment.files", fix=prefix + "sha256:…"
            )  # fmt: skip
        digest = check_digest(image_of(name.removeprefix(prefix)))
        blob = await self._registry.metadata.find_blob(stored, digest)
        if blob is None:
            raise NotFoundError(f"there is no file {name}", fix="push it first")
        return {"mediaType": "application/octet-stream", "digest": digest, "size": blob.size}

    async def _put_empty_config(self, stored: Repository) -> None:
        digest = digest_of(EMPTY_CONFIG)
        if await self._registry.metadata.find_blob(stored, digest) is not None:
            return
        storage = self._registry.open_storage()
        link = partial(
            self._registry.metadata.link_blob,
            stored,
            digest,
            len(EMPTY_CONFIG),
            still_there=storage.is_there,
        )
        self._registry.staging.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._registry.staging, prefix="attachment-") as staged:  # fmt: skip
            staged.write(EMPTY_CONFIG)
            staged.flush()
            await commit_blob(storage, link, Path(staged.name), digest)

    async def _whole(
        self, call: Call, stored: Repository, row: rows.Version, made: Made
    ) -> JsonObject:
        manifest = await self._registry.metadata.find_manifest(stored, row.image, row.digest)
        children = parse_manifest(manifest.body, manifest.media_type).children if manifest else ()
        config = digest_of(EMPTY_CONFIG)
        files = [c.digest for c in children if c.kind is ChildKind.BLOB and c.digest != config]
        return write_document(_document(call.repository, row, files, made))


def _document(
    name: RepositoryName, row: rows.Version, files: list[str] | tuple[()], made: Made
) -> Attachment:
    note = made.get(row.key, {})
    identifier = note.get("id") or attachment_id(row.image, row.digest)
    return attachment_document(
        name, row, files, identifier=identifier, namespace=note.get("namespace", "")
    )
