"""Repositories in the database: found by every request, made and changed with an etag, removed with all they hold."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from hakobune.registry import repository as rows
from hakobune.registry.errors import ResourceError
from hakobune.registry.repository import Repository
from hakobune.registry.rows import Rows
from hakobune.state.audit import record
from hakobune.state.sql import Transaction

_COMPONENT: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_OF_A_REPOSITORY: Final = (
    "manifest",
    "manifest_ref",
    "tag",
    "tag_history",
    "repository_blob",
    "upload",
    "remote_tag",
    "remote_list",
)
Also = Callable[[Transaction], Awaitable[None]]


class RepositoryRows(Rows):
    """The part of `Metadata` about repositories."""

    async def find_repository(self, project: str, name: str) -> Repository | None:
        """The repository of PROJECT/NAME, in whatever location."""
        row = await self.sql.fetch_row(
            f"SELECT {rows.COLUMNS} FROM repository WHERE project = $1 AND name = $2", project, name
        )
        return None if row is None else rows.from_row(row)

    async def read_repository(self, id: int) -> Repository | None:
        """The repository with that number."""
        row = await self.sql.fetch_row(f"SELECT {rows.COLUMNS} FROM repository WHERE id = $1", id)
        return None if row is None else rows.from_row(row)

    async def list_repositories(
        self, project: str = "", location: str = ""
    ) -> tuple[Repository, ...]:
        """All repositories (of a project, in a location), sorted by full name."""
        found = await self.sql.fetch(
            f"SELECT {rows.COLUMNS} FROM repository WHERE (CAST($1 AS TEXT) = '' OR project = $1) "
            "AND (CAST($2 AS TEXT) = '' OR location = $2) ORDER BY project, location, name",
            project,
            location,
        )
        return tuple(rows.from_row(row) for row in found)

    async def create_repository(
        self, repository: Repository, actor: str, *, also: Also | None = None
    ) -> Repository:
        """Store a new repository; as it is stored, with id, times and etag.

        Args:
            also: more to write in the same transaction.

        Raises:
            ResourceError: ALREADY_EXISTS, saying in which location; INVALID_ARGUMENT for a name that no image can have.
        """
        _check_name("project", repository.project)
        _check_name("repository", repository.name)

        async def work(transaction: Transaction) -> tuple[Repository, bool]:
            now = self.clock()
            new = replace(repository, id=0, created_at=now, updated_at=now)
            new = replace(new, etag=_etag(new))
            row = await transaction.fetch_row(
                "INSERT INTO repository (project, location, name, mode, format, description, labels, "
                "immutable_tags, config, cleanup_policies, cleanup_dry_run, cleaned_at, created_at, "
                "updated_at, etag) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $12, $12, $13) "
                "ON CONFLICT (project, name) DO NOTHING RETURNING id",
                new.project,
                new.location,
                new.name,
                new.mode.value,
                new.format,
                *rows.to_columns(new),
                now,
                new.etag,
            )
            if row is None:
                raise await _exists(transaction, new)
            if also is not None:
                await also(transaction)
            await record(transaction, now, actor, "repository.create", new.resource, new.mode)
            return replace(new, id=row[0]), True

        return await self.transact(work)

    async def update_repository(
        self, repository: Repository, actor: str, *, etag: str = ""
    ) -> Repository:
        """Store what of *repository* may change (not names, mode, format); as it is stored now.

        Args:
            etag: what the client has read, if it says so.

        Raises:
            ResourceError: NOT_FOUND; ABORTED if somebody else has changed it since.
        """

        async def work(transaction: Transaction) -> tuple[Repository, bool]:
            before = await _stored(transaction, repository, etag)
            new = replace(
                repository,
                project=before.project,
                location=before.location,
                name=before.name,
                mode=before.mode,
                format=before.format,
                created_at=before.created_at,
                updated_at=self.clock(),
            )
            new = replace(new, etag=_etag(new))
            await transaction.execute(
                "UPDATE repository SET description = $2, labels = $3, immutable_tags = $4, config = $5, "
                "cleanup_policies = $6, cleanup_dry_run = $7, updated_at = $8, etag = $9 WHERE id = $1",
                before.id,
                *rows.to_columns(new),
                new.updated_at,
                new.etag,
            )
            await record(transaction, new.updated_at, actor, "repository.update", new.resource)
            return new, True

        return await self.transact(work)

    async def delete_repository(
        self, repository: Repository, actor: str, *, etag: str = "", also: Also | None = None
    ) -> None:
        """Remove a repository with all it holds. Blobs that nothing else uses are the collector's then.

        Args:
            also: more to write in the same transaction, as its policy's removal.

        Raises:
            ResourceError: NOT_FOUND; ABORTED.
        """

        async def work(transaction: Transaction) -> tuple[None, bool]:
            before = await _stored(transaction, repository, etag)
            for table in _OF_A_REPOSITORY:
                await transaction.execute(f"DELETE FROM {table} WHERE repository = $1", before.id)
            await transaction.execute("DELETE FROM quota WHERE resource = $1", before.resource)
            await transaction.execute("DELETE FROM repository WHERE id = $1", before.id)
            if also is not None:
                await also(transaction)
            await record(transaction, self.clock(), actor, "repository.delete", before.resource)
            return None, True

        await self.transact(work)

    async def sizes(self, repositories: Sequence[Repository]) -> Mapping[int, int]:
        """Bytes of each repository by id: every blob and manifest that it links, once."""
        sizes: dict[int, int] = {}
        for repository in repositories:
            row = await self.sql.fetch_row(SIZE_OF_A_REPOSITORY, repository.id)
            sizes[repository.id] = 0 if row is None else row[0]
        return sizes


SIZE_OF_A_REPOSITORY: Final = (
    "SELECT CAST(COALESCE((SELECT SUM(size) FROM repository_blob WHERE repository = $1), 0) AS BIGINT) + "
    "CAST(COALESCE((SELECT SUM(size) FROM manifest WHERE repository = $1), 0) AS BIGINT)"
)


async def _stored(transaction: Transaction, repository: Repository, etag: str) -> Repository:
    row = await transaction.fetch_row(
        f"SELECT {rows.COLUMNS} FROM repository WHERE project = $1 AND name = $2",
        repository.project,
        repository.name,
    )
    if row is None:
        raise ResourceError("NOT_FOUND", f"there is no repository {repository.resource}")
    before = rows.from_row(row)
    if etag and etag != before.etag:
        raise ResourceError(
            "ABORTED",
            f"{before.resource} was changed by somebody else",
            why=f"its etag is {before.etag} now, not {etag}",
            fix="read it again",
        )
    return before


async def _exists(transaction: Transaction, repository: Repository) -> ResourceError:
    row = await transaction.fetch_row(
        f"SELECT {rows.COLUMNS} FROM repository WHERE project = $1 AND name = $2",
        repository.project,
        repository.name,
    )
    if row is None:  # removed in this very moment
        return ResourceError("ABORTED", f"{repository.resource} is being changed", fix="try again")
    found = rows.from_row(row)
    why = (
        ""
        if found.location == repository.location
        else "image names have no location, so a project has each repository name once"
    )
    return ResourceError(
        "ALREADY_EXISTS",
        f"project {found.project} has a repository {found.name} in location {found.location} already",
        why=why,
    )


def _check_name(what: str, name: str) -> None:
    if not _COMPONENT.fullmatch(name) or len(name) > 128 or (what, name) == ("project", "projects"):
        raise ResourceError(
            "INVALID_ARGUMENT",
            f"{name!r} cannot be the name of a {what}",
            why="it is a part of image names: lower-case letters and digits, joined by one of . _ -",
        )


def _etag(repository: Repository) -> str:
    return hashlib.sha256(repr(repository).encode(), usedforsecurity=False).hexdigest()[:16]
