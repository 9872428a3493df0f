"""Tags in the database: what a name of an image means, what it has meant, and that some must not move."""

from __future__ import annotations

from hakobune.registry.errors import RegistryError
from hakobune.registry.manifest import check_reference
from hakobune.registry.repository import Repository
from hakobune.registry.rows import Rows, image_resource, manifest_unknown, name_unknown
from hakobune.state.audit import record
from hakobune.state.sql import Transaction


class TagRows(Rows):
    """The part of `Metadata` about single tags."""

    async def put_tag(
        self, repository: Repository, image: str, tag: str, digest: str, actor: str
    ) -> None:
        """Let a tag name a manifest that is there.

        Raises:
            RegistryError: MANIFEST_UNKNOWN; DENIED for a tag that must not move; TAG_INVALID.
        """
        check_reference(tag)

        async def work(transaction: Transaction) -> tuple[None, bool]:
            immutable = await has_immutable_tags(transaction, repository)
            row = await transaction.fetch_row(
                "SELECT 1 FROM manifest WHERE repository = $1 AND image = $2 AND digest = $3",
                repository.id,
                image,
                digest,
            )
            if row is None:
                raise manifest_unknown(repository, image, digest)
            now = self.clock()
            changed = await set_tag(
                transaction, repository, image, tag, digest, now, actor, immutable=immutable
            )
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
            if await has_immutable_tags(transaction, repository):
                raise tags_immutable(f"the tag {tag} is not removed", repository)
            now = self.clock()
            if not await drop_tag(transaction, repository, image, tag, now, actor):
                raise manifest_unknown(repository, image, tag)
            await record(
                transaction, now, actor, "tag.delete", image_resource(repository, image), tag
            )
            return None, True

        await self.transact(work)


async def has_immutable_tags(transaction: Transaction, repository: Repository) -> bool:
    """Whether they are, as the database has it: the repository in hand may be a minute old, or gone."""
    row = await transaction.fetch_row(
        "SELECT immutable_tags FROM repository WHERE id = $1", repository.id
    )
    if row is None:
        raise name_unknown(repository)
    return bool(row[0])


def tags_immutable(what: str, repository: Repository) -> RegistryError:
    """The refusal to change a tag there."""
    return RegistryError("DENIED", f"{what}: tags in {repository.path} are immutable", status=400)


async def set_tag(
    transaction: Transaction,
    repository: Repository,
    image: str,
    tag: str,
    digest: str,
    now: int,
    actor: str,
    *,
    immutable: bool,
) -> bool:
    """Let a tag name a manifest; whether it has named something else, or nothing, before.

    Raises:
        RegistryError: DENIED for one that is there and *immutable*.
    """
    key = (repository.id, image, tag)
    before = await transaction.fetch_row(
        "SELECT digest FROM tag WHERE repository = $1 AND image = $2 AND name = $3", *key
    )
    if before is not None and before[0] == digest:
        return False
    if before is not None and immutable:
        raise tags_immutable(f"the tag {tag} stays at {before[0]}", repository)
    await transaction.execute(
        "INSERT INTO tag (repository, image, name, digest, created_at, updated_at) "
        "VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (repository, image, name) DO UPDATE "
        "SET digest = excluded.digest, updated_at = excluded.updated_at",
        *key,
        digest,
        now,
    )
    await _note_tag(transaction, key, digest, now, actor)
    return True


async def drop_tag(
    transaction: Transaction, repository: Repository, image: str, tag: str, now: int, actor: str
) -> bool:
    """Take a tag away; whether it was there."""
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
