"""Manifests and tags in the database: what a PUT or DELETE of one does, all of it in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

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
from hakobune.registry.repository import Repository
from hakobune.registry.rows import SECOND, image_resource, name_unknown, padded, places
from hakobune.state.audit import record
from hakobune.state.sql import Row, Transaction

MAX_TAGS_OF_A_PUT: Final = 64
_PULL_KEPT_US: Final = 60 * SECOND  # a pull time is written at most once in so long a time
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
    """The part of `Metadata` about manifests and tags."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pulled: dict[tuple[int, str, str], int] = {}

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
            immutable = await _immutable_tags(transaction, repository)
            blobs = [c for c in push.parsed.children if c.kind is ChildKind.BLOB]
            if children_must_exist:
                await self._promise_children(transaction, repository, blobs, now)
                await _check_manifests(transaction, push)
            created, changed = await _write_manifest(transaction, push, now)
            for tag in push.tags:
                changed |= await _set_tag(transaction, push, tag, now, immutable=immutable)
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

    async def put_tag(
        self, repository: Repository, image: str, tag: str, digest: str, actor: str
    ) -> None:
        """Let a tag name a manifest that is there.

        Raises:
            RegistryError: MANIFEST_UNKNOWN; DENIED for a tag that must not move; TAG_INVALID.
        """
        check_reference(tag)

        async def work(transaction: Transaction) -> tuple[None, bool]:
            immutable = await _immutable_tags(transaction, repository)
            row = await transaction.fetch_row(
                f"SELECT {_STORED} FROM manifest m "
                "WHERE m.repository = $1 AND m.image = $2 AND m.digest = $3",
                repository.id,
                image,
                digest,
            )
            if row is None:
                raise manifest_unknown(repository, image, digest)
            now = self.clock()
            stored = _from_row(row)
            push = Push(
                repository=repository,
                image=image,
                digest=digest,
                body=stored.body,
                parsed=parse_manifest(stored.body, stored.media_type),
                tags=(tag,),
                actor=actor,
            )
            changed = await _set_tag(transaction, push, tag, now, immutable=immutable)
            resource = image_resource(repository, image)
            await record(transaction, now, actor, "tag.put", resource, f"{tag} {digest}")
            return None, changed

        await self.transact(work)

    async def delete_tag(self, repository: Repository, image: str, tag: str, actor: str) -> None:
        """Remove a tag; what it named stays (end-9).

        Raises:
            RegistryError: MANIFEST_UNKNOWN; DENIED where tags are immutable.
        """

        async def work(transaction: Transaction) -> tuple[None, bool]:
            if await _immutable_tags(transaction, repository):
                raise _immutable(f"the tag {tag} is not removed", repository)
            now = self.clock()
            if not await _drop_tag(transaction, repository, image, tag, now, actor):
                raise manifest_unknown(repository, image, tag)
            await record(
                transaction, now, actor, "tag.delete", image_resource(repository, image), tag
            )
            return None, True

        await self.transact(work)

    async def delete_manifest(
        self,
        repository: Repository,
        image: str,
        digest: str,
        actor: str,
        *,
        even_tagged: bool = True,
        reason: str = "",
        as_of: tuple[int, tuple[str, ...]] | None = None,
    ) -> None:
        """Remove a manifest and its tags (end-9). What it names is the collector's, once nothing else does.

        Args:
            even_tagged: false refuses one that has tags.
            reason: for the audit trail.
            as_of: when it was pushed and its tags, in order, as whoever decided has seen them.

        Raises:
            RegistryError: MANIFEST_UNKNOWN, also if it is no longer *as_of*; DENIED where tags are immutable and it has one, where an index
                contains it, and for a tag that *even_tagged* does not allow.
        """

        async def work(transaction: Transaction) -> tuple[None, bool]:
            immutable = await _immutable_tags(transaction, repository)
            now = self.clock()
            tags = await _tags_of(transaction, repository, image, digest)
            if as_of is not None:
                row = await transaction.fetch_row(
                    "SELECT pushed_at FROM manifest "
                    "WHERE repository = $1 AND image = $2 AND digest = $3",
                    repository.id,
                    image,
                    digest,
                )
                if row is None or (row[0], tuple(tags)) != as_of:
                    raise manifest_unknown(repository, image, digest)
            if tags and immutable:
                raise _immutable(f"{digest} is not removed: it has the tag {tags[0]}", repository)
            if tags and not even_tagged:
                raise RegistryError(
                    "DENIED", f"{digest} is not removed: it has the tag {tags[0]}", status=400
                )
            if parent := await _parent_of(transaction, repository, image, digest):
                raise RegistryError(
                    "DENIED",
                    f"{digest} is not removed: the index {parent} contains it, delete that first",
                    status=400,
                )
            for tag in tags:
                await _drop_tag(transaction, repository, image, tag, now, actor)
            if not await _drop_manifest(transaction, repository, image, digest):
                raise manifest_unknown(repository, image, digest)
            detail = " ".join(filter(None, (digest, *tags, reason)))
            resource = image_resource(repository, image)
            await record(transaction, now, actor, "manifest.delete", resource, detail)
            return None, True

        await self.transact(work)

    async def delete_image(self, repository: Repository, image: str, actor: str) -> None:
        """Remove all manifests and tags of an image (a package, in Artifact Registry's words).

        Raises:
            RegistryError: NAME_UNKNOWN; DENIED where tags are immutable and it has one.
        """

        async def work(transaction: Transaction) -> tuple[None, bool]:
            immutable = await _immutable_tags(transaction, repository)
            tags = await transaction.fetch(
                "SELECT name FROM tag WHERE repository = $1 AND image = $2 ORDER BY name",
                repository.id,
                image,
            )
            if tags and immutable:
                raise _immutable(f"{image} is not removed: it has the tag {tags[0][0]}", repository)
            now = self.clock()
            for (tag,) in tags:
                await _drop_tag(transaction, repository, image, tag, now, actor)
            removed = 0
            for table in ("manifest", "manifest_ref", "remote_tag", "remote_list"):
                removed += await transaction.execute(
                    f"DELETE FROM {table} WHERE repository = $1 AND image = $2",
                    repository.id,
                    image,
                )
            if not removed:
                raise name_unknown(repository, image)
            await record(transaction, now, actor, "image.delete", image_resource(repository, image))
            return None, True

        await self.transact(work)

    def note_pull(self, repository: Repository, image: str, digest: str) -> None:
        """Remember that a manifest was pulled just now; `flush_pulls` writes it."""
        self._pulled[repository.id, image, digest] = self.clock()

    async def flush_pulls(self) -> int:
        """Write the pull times that were noted, once a minute each; how many. To be called every minute and at the end."""
        pulled, self._pulled = self._pulled, {}
        if not pulled:
            return 0

        async def work(transaction: Transaction) -> None:
            await transaction.execute_many(
                "UPDATE manifest SET pulled_at = $4 WHERE repository = $1 AND image = $2 "
                "AND digest = $3 AND pulled_at < $5",
                [(*key, at, at - _PULL_KEPT_US) for key, at in sorted(pulled.items())],
            )

        await self.sql.transact(work, durable=False)
        return len(pulled)


def manifest_unknown(repository: Repository, image: str, reference: str) -> RegistryError:
    return RegistryError(
        "MANIFEST_UNKNOWN",
        f"{repository.path}/{image} has no {'manifest' if ':' in reference else 'tag'} {reference}",
        {"name": f"{repository.path}/{image}", "reference": reference},
    )


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


async def _immutable_tags(transaction: Transaction, repository: Repository) -> bool:
    """As it is now; the repository in hand may be a minute old, or gone."""
    row = await transaction.fetch_row(
        "SELECT immutable_tags FROM repository WHERE id = $1", repository.id
    )
    if row is None:
        raise name_unknown(repository)
    return bool(row[0])


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


async def _set_tag(
    transaction: Transaction, push: Push, tag: str, now: int, *, immutable: bool
) -> bool:
    """Whether the tag names something else now than before."""
    key = (push.repository.id, push.image, tag)
    before = await transaction.fetch_row(
        "SELECT digest FROM tag WHERE repository = $1 AND image = $2 AND name = $3", *key
    )
    if before is not None and before[0] == push.digest:
        return False
    if before is not None and immutable:
        raise _immutable(f"the tag {tag} stays at {before[0]}", push.repository)
    await transaction.execute(
        "INSERT INTO tag (repository, image, name, digest, created_at, updated_at) "
        "VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (repository, image, name) DO UPDATE "
        "SET digest = excluded.digest, updated_at = excluded.updated_at",
        *key,
        push.digest,
        now,
    )
    await _note_tag(transaction, key, push.digest, now, push.actor)
    return True


async def _drop_tag(
    transaction: Transaction, repository: Repository, image: str, tag: str, now: int, actor: str
) -> bool:
    key = (repository.id, image, tag)
    if not await transaction.execute(
        "DELETE FROM tag WHERE repository = $1 AND image = $2 AND name = $3", *key
    ):
        return False
    await _note_tag(transaction, key, "", now, actor)
    return True


async def _note_tag(
    transaction: Transaction, key: tuple[int, str, str], digest: str, now: int, actor: str
) -> None:
    await transaction.execute(
        "INSERT INTO tag_history (repository, image, name, digest, at, actor) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        *key,
        digest,
        now,
        actor,
    )


async def _drop_manifest(
    transaction: Transaction, repository: Repository, image: str, digest: str
) -> bool:
    key = (repository.id, image, digest)
    await transaction.execute(
        "DELETE FROM manifest_ref WHERE repository = $1 AND image = $2 AND parent = $3", *key
    )
    return (
        await transaction.execute(
            "DELETE FROM manifest WHERE repository = $1 AND image = $2 AND digest = $3", *key
        )
        > 0
    )


async def _tags_of(
    transaction: Transaction, repository: Repository, image: str, digest: str
) -> list[str]:
    found = await transaction.fetch(
        "SELECT name FROM tag WHERE repository = $1 AND image = $2 AND digest = $3 ORDER BY name",
        repository.id,
        image,
        digest,
    )
    return [row[0] for row in found]


async def _parent_of(
    transaction: Transaction, repository: Repository, image: str, digest: str
) -> str:
    row = await transaction.fetch_row(
        "SELECT parent FROM manifest_ref WHERE child = $3 AND repository = $1 AND image = $2 "
        "AND kind = 'manifest' LIMIT 1",
        repository.id,
        image,
        digest,
    )
    return "" if row is None else row[0]


def _immutable(what: str, repository: Repository) -> RegistryError:
    return RegistryError("DENIED", f"{what}: tags in {repository.path} are immutable", status=400)


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
