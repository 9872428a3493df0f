"""Manifests in the database: what is found, and what a PUT of one writes, all of it in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hakobune.registry.errors import RegistryError
from hakobune.registry.manifest import (
    Child,
    ChildKind,
    ParsedManifest,
    PutManifest,
    StoredManifest,
    check_reference,
    digest_of,
    parse_manifest,
)
from hakobune.registry.metadata_blobs import BlobRows, children_unknown
from hakobune.registry.metadata_tags import has_immutable_tags, set_tag
from hakobune.registry.repository import Repository
from hakobune.registry.rows import image_resource, padded, places
from hakobune.state.audit import record
from hakobune.state.sql import Row, Transaction

MAX_TAGS_OF_A_PUT: Final = 64
_STORED: Final = (
    "m.digest, m.media_type, m.body, m.artifact_type, m.subject, m.pushed_at, m.pulled_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A manifest that is being stored: checked, not yet written."""

    repository: Repository
    image: str
    digest: str
    body: bytes
    parsed: ParsedManifest
    tags: tuple[str, ...]
    actor: str


class ManifestRows(BlobRows):
    """The part of `Metadata` that finds and stores manifests."""

    async def find_manifest(
        self, repository: Repository, image: str, reference: str
    ) -> StoredManifest | None:
        """The manifest of a tag or digest."""
        if ":" in reference:
            row = await self.sql.fetch_row(
                f"SELECT {_STORED} FROM manifest m "
                "WHERE m.repository = $1 AND m.image = $2 AND m.digest = $3",
                repository.id,
                image,
                reference,
            )
        else:
            row = await self.sql.fetch_row(
                f"SELECT {_STORED} FROM tag t JOIN manifest m ON m.repository = t.repository "
                "AND m.image = t.image AND m.digest = t.digest "
                "WHERE t.repository = $1 AND t.image = $2 AND t.name = $3",
                repository.id,
                image,
                reference,
            )
        return None if row is None else _from_row(row)

    async def put_manifest(
        self,
        repository: Repository,
        image: str,
        references: Sequence[str],
        body: bytes,
        media_type: str,
        actor: str,
        *,
        children_must_exist: bool = True,
    ) -> PutManifest:
        """Store a manifest under its digest and tags (end-7a, end-7b): all of it is visible together, or nothing.

        Args:
            references: tags, and at most one digest, which then must be the body's.
            media_type: the request's Content-Type; "" for what the body says.
            children_must_exist: false for what a remote repository has fetched.

        Raises:
            RegistryError: MANIFEST_INVALID, DIGEST_INVALID, TAG_INVALID, SIZE_INVALID for what it is;
                MANIFEST_BLOB_UNKNOWN for what it names; DENIED for a tag that must not move.
        """
        push = _check_push(repository, image, references, body, media_type, actor)
        now = self.clock()

        async def work(transaction: Transaction) -> tuple[PutManifest, bool]:
            immutable = await has_immutable_tags(transaction, repository)
            blobs = [c for c in push.parsed.children if c.kind is ChildKind.BLOB]
            if children_must_exist:
                await self._promise_children(transaction, repository, blobs, now)
                await _check_manifests(transaction, push)
            created, changed = await _write_manifest(transaction, push, now)
            for tag in push.tags:
                changed |= await set_tag(
                    transaction,
                    repository,
                    image,
                    tag,
                    push.digest,
                    now,
                    actor,
                    immutable=immutable,
                )
            resource = image_resource(repository, image)
            await record(
                transaction,
                now,
                actor,
                "manifest.put",
                resource,
                " ".join((push.digest, *push.tags)),
            )
            done = PutManifest(
                digest=push.digest, subject=push.parsed.subject, tags=push.tags, created=created
            )
            return done, changed

        return await self.transact(work)


def _check_push(
    repository: Repository,
    image: str,
    references: Sequence[str],
    body: bytes,
    media_type: str,
    actor: str,
) -> Push:
    parsed = parse_manifest(body, media_type)
    digests = [check_reference(r) for r in references if ":" in r]
    tags = tuple(dict.fromkeys(check_reference(r) for r in references if ":" not in r))
    if len(tags) > MAX_TAGS_OF_A_PUT:
        raise RegistryError(
            "TAG_INVALID", f"{len(tags)} tags at once, the limit is {MAX_TAGS_OF_A_PUT}", status=414
        )
    asked = digests[0] if digests else ""
    digest = digest_of(body, asked.partition(":")[0] or "sha256")
    if asked and digest != asked:
        raise RegistryError("DIGEST_INVALID", f"the manifest's digest is {digest}, not {asked}")
    return Push(
        repository=repository,
        image=image,
        digest=digest,
        body=body,
        parsed=parsed,
        tags=tags,
        actor=actor,
    )


async def _check_manifests(transaction: Transaction, push: Push) -> None:
    """That every manifest of an index is there, in the same image."""
    wanted = [c.digest for c in push.parsed.children if c.kind is ChildKind.MANIFEST]
    there: set[str] = set()
    for group in padded(wanted):
        found = await transaction.fetch(
            "SELECT digest FROM manifest WHERE repository = $1 AND image = $2 "
            f"AND digest IN ({places(3, len(group))})",
            push.repository.id,
            push.image,
            *group,
        )
        there.update(row[0] for row in found)
    if missing := [digest for digest in wanted if digest not in there]:
        raise children_unknown(missing)


async def _write_manifest(transaction: Transaction, push: Push, now: int) -> tuple[bool, bool]:
    """Whether it is new, and whether what caches hold of it is untrue; one that was there gets a new time."""
    key = (push.repository.id, push.image, push.digest)
    before = await transaction.fetch_row(
        "SELECT media_type FROM manifest WHERE repository = $1 AND image = $2 AND digest = $3", *key
    )
    if before is not None:
        await transaction.execute(
            "UPDATE manifest SET pushed_at = $4, media_type = $5, pushed_by = $6 "
            "WHERE repository = $1 AND image = $2 AND digest = $3",
            *key,
            now,
            push.parsed.media_type,
            push.actor,
        )
        return False, before[0] != push.parsed.media_type
    parsed = push.parsed
    await transaction.execute(
        "INSERT INTO manifest (repository, image, digest, media_type, artifact_type, config_media_type, "
        "config_digest, subject, size, image_size, body, annotations, created_at, pushed_at, pulled_at, "
        "built_at, pushed_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, 0, 0, $14)",
        *key,
        parsed.media_type,
        parsed.artifact_type,
        parsed.config_media_type,
        parsed.config_digest,
        parsed.subject,
        len(push.body),
        parsed.image_size,
        push.body,
        _annotations(parsed.annotations),
        now,
        push.actor,
    )
    if parsed.children:
        await transaction.execute_many(
            "INSERT INTO manifest_ref (repository, image, parent, child, kind, platform) "
            "VALUES ($1, $2, $3, $4, $5, $6)",
            [(*key, *_ref(child)) for child in parsed.children],
        )
    return True, False


def _annotations(annotations: Mapping[str, str]) -> str:
    return json.dumps(dict(annotations), ensure_ascii=False) if annotations else "{}"


def _ref(child: Child) -> tuple[str, str, str]:
    return child.digest, child.kind.value, child.platform


def _from_row(row: Row) -> StoredManifest:
    return StoredManifest(
        digest=row[0],
        media_type=row[1],
        body=row[2],
        artifact_type=row[3],
        subject=row[4],
        pushed_at=row[5],
        pulled_at=row[6],
    )
