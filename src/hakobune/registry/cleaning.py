"""Carries out cleanup policies: reads the versions, lets `cleanup` decide, deletes one after the other, notes each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hakobune.registry.cleanup import Candidate, Verdict, plan_cleanup
from hakobune.registry.errors import RegistryError
from hakobune.registry.metadata import Metadata
from hakobune.registry.repository import Mode, Repository

ACTOR = "cleanup"


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a run has done, or would have done."""

    verdicts: tuple[Verdict, ...]
    deleted: int
    dry_run: bool


async def read_candidates(metadata: Metadata, repository: Repository) -> tuple[Candidate, ...]:
    """All versions of a repository as policies see them."""
    tags: dict[tuple[str, str], list[str]] = {}
    for image, name, digest in await metadata.sql.fetch(
        "SELECT image, name, digest FROM tag WHERE repository = $1 ORDER BY image, name",
        repository.id,
    ):
        tags.setdefault((image, digest), []).append(name)
    children: dict[tuple[str, str], list[str]] = {}
    for image, parent, child in await metadata.sql.fetch(
        "SELECT image, parent, child FROM manifest_ref WHERE repository = $1 AND kind = 'manifest' "
        "ORDER BY image, parent, child",
        repository.id,
    ):
        children.setdefault((image, parent), []).append(child)
    return tuple(
        Candidate(
            image=image,
            digest=digest,
            tags=tuple(tags.get((image, digest), ())),
            pushed_at=pushed_at,
            subject=subject,
            children=tuple(children.get((image, digest), ())),
        )
        for image, digest, pushed_at, subject in await metadata.sql.fetch(
            "SELECT image, digest, pushed_at, subject FROM manifest WHERE repository = $1 "
            "ORDER BY image, digest",
            repository.id,
        )
    )


async def clean(metadata: Metadata, repository: Repository, *, dry_run: bool = False) -> Cleaned:
    """Apply the repository's policies now; with a dry run (asked for here or set there) only say what would go.

    Raises:
        CleanupPolicyError: a policy cannot be read.
        DatabaseError: what is done stays done.
    """
    verdicts = plan_cleanup(
        repository.cleanup_policies,
        await read_candidates(metadata, repository),
        now=metadata.clock(),
        immutable_tags=repository.immutable_tags,
    )
    dry_run = dry_run or repository.cleanup_dry_run
    going = [v for v in verdicts if v.deleted]
    if dry_run:
        await _note_dry_run(metadata, repository, going)
        return Cleaned(verdicts, 0, True)
    deleted = 0
    for verdict in going:
        deleted += await _delete(metadata, repository, verdict)
    return Cleaned(verdicts, deleted, False)


async def evict(metadata: Metadata, repository: Repository) -> int:
    """Delete what was used longest ago from a remote repository that has grown beyond its cap; how many manifests.

    Their blobs go with the next collections; what counts is what manifests name.
    """
    cap = repository.remote.size_cap_bytes if repository.remote else 0
    if repository.mode is not Mode.REMOTE or not cap:
        return 0
    row = await metadata.sql.fetch_row(_NAMED_BYTES, repository.id)
    size = 0 if row is None else row[0]
    evicted = 0
    contained = {
        (image, child)
        for image, child in await metadata.sql.fetch(
            "SELECT image, child FROM manifest_ref WHERE repository = $1 AND kind = 'manifest'",
            repository.id,
        )
    }
    for image, digest, bytes_ in await metadata.sql.fetch(
        "SELECT image, digest, size + image_size FROM manifest WHERE repository = $1 "
        "ORDER BY CASE WHEN pulled_at > pushed_at THEN pulled_at ELSE pushed_at END, digest",
        repository.id,
    ):
        if size <= cap:
            break
        if (image, digest) in contained:
            continue  # with its index, the next time
        await metadata.delete_manifest(
            repository, image, digest, ACTOR, reason="the repository is larger than its cap"
        )
        size -= bytes_
        evicted += 1
    return evicted


async def _delete(metadata: Metadata, repository: Repository, verdict: Verdict) -> bool:
    """Whether it is gone; not if it has been pushed, tagged or named by an index since it was looked at."""
    version = verdict.candidate
    try:
        await metadata.delete_manifest(
            repository,
            version.image,
            version.digest,
            ACTOR,
            reason=f"policy {verdict.policy}: {verdict.reason}",
            as_of=(version.pushed_at, version.tags),
        )
    except RegistryError:
        return False
    return True


async def _note_dry_run(
    metadata: Metadata, repository: Repository, going: Sequence[Verdict]
) -> None:
    for verdict in going[:_NOTED]:
        version = verdict.candidate
        await metadata.audit(
            ACTOR,
            "cleanup.dry-run",
            f"{repository.resource}/packages/{version.image.replace('/', '%2F')}",
            f"{version.digest} policy {verdict.policy}: {verdict.reason}",
        )


_NOTED = 1000
_NAMED_BYTES = (
    "SELECT CAST(COALESCE((SELECT SUM(size) FROM manifest WHERE repository = $1), 0) + "
    "COALESCE((SELECT SUM(b.size) FROM repository_blob b WHERE b.repository = $1 AND EXISTS "
    "(SELECT 1 FROM manifest_ref r WHERE r.child = b.digest AND r.repository = $1)), 0) AS BIGINT)"
)
