"""Manifests and whole images taken out of the database; what they named is the collector's, once nothing else does."""

from __future__ import annotations

from hakobune.registry.errors import RegistryError
from hakobune.registry.metadata_tags import drop_tag, has_immutable_tags, tags_immutable
from hakobune.registry.repository import Repository
from hakobune.registry.rows import Rows, image_resource, manifest_unknown, name_unknown
from hakobune.state.audit import record
from hakobune.state.sql import Transaction


class RemovalRows(Rows):
    """The part of `Metadata` that removes manifests."""

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
            RegistryError: MANIFEST_UNKNOWN, also if it is not as *as_of* says; DENIED where tags are immutable and it has one, where an
                index contains it, and for a tag that *even_tagged* does not allow.
        """

        async def work(transaction: Transaction) -> tuple[None, bool]:
            immutable = await has_immutable_tags(transaction, repository)
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
                raise tags_immutable(
                    f"{digest} is not removed: it has the tag {tags[0]}", repository
                )
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
                await drop_tag(transaction, repository, image, tag, now, actor)
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
            immutable = await has_immutable_tags(transaction, repository)
            tags = await transaction.fetch(
                "SELECT name FROM tag WHERE repository = $1 AND image = $2 ORDER BY name",
                repository.id,
                image,
            )
            if tags and immutable:
                raise tags_immutable(
                    f"{image} is not removed: it has the tag {tags[0][0]}", repository
                )
            now = self.clock()
            for (tag,) in tags:
                await drop_tag(transaction, repository, image, tag, now, actor)
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
