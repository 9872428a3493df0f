"""What Artifact Registry's API keeps and the data plane has no use for: operations, annotations, project settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from hakobune.state.sql import Sql, Transaction

KEPT_OPERATIONS: Final = 1000  # of a location; the oldest go

Clock = Callable[[], int]  # microseconds since 1970


class ArtifactsStore:
    """Rows by name; documents as JSON."""

    def __init__(self, sql: Sql, clock: Clock) -> None:
        self._sql = sql
        self._clock = clock

    async def add_operation(self, parent: str, name: str, document: Mapping[str, Any]) -> None:
        """Keep an operation of `projects/P/locations/L`, and forget the oldest beyond the limit."""
        now = self._clock()

        async def work(transaction: Transaction) -> None:
            await transaction.execute(
                "INSERT INTO artifact_operation (name, parent, created_at, document) VALUES ($1, $2, $3, $4)",
                name, parent, now, json.dumps(document),
            )  # fmt: skip
            await transaction.execute(
                "DELETE FROM artifact_operation WHERE parent = $1 AND name IN (SELECT name FROM artifact_operation "
                "WHERE parent = $1 ORDER BY created_at DESC, name LIMIT 100 OFFSET $2)",
                parent, KEPT_OPERATIONS,
            )  # fmt: skip

        await self._sql.transact(work, durable=False)

    async def find_operation(self, name: str) -> dict[str, Any] | None:
        row = await self._sql.fetch_row(
            "SELECT document FROM artifact_operation WHERE name = $1", name
        )
        return None if row is None else json.loads(row[0])

    async def list_operations(self, parent: str) -> list[dict[str, Any]]:
        """Those of a location, newest first."""
        rows = await self._sql.fetch(
            "SELECT document FROM artifact_operation WHERE parent = $1 ORDER BY created_at DESC, name",
            parent,
        )
        return [json.loads(row[0]) for row in rows]

    async def drop_operation(self, name: str) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute("DELETE FROM artifact_operation WHERE name = $1", name)

        await self._sql.transact(work)

    async def annotations(
        self, repository: int, resource: str, *, since: int = 0
    ) -> dict[str, str]:
        """The annotations of `packages/P`, `packages/P/versions/V` or `files/F` in the repository of that id.

        Args:
            since: when the resource was made (µs); what was set before belongs to one of the same name before it.
        """
        found = await self.all_annotations(repository, resource)
        value, set_at = found.get(resource, ({}, 0))
        return value if set_at >= since else {}

    async def all_annotations(
        self, repository: int, prefix: str
    ) -> dict[str, tuple[dict[str, str], int]]:
        """By resource that begins with *prefix*: the annotations, and when they were set (µs)."""
        rows = await self._sql.fetch(
            "SELECT resource, annotations, updated_at FROM artifact_annotations "
            "WHERE repository = $1 AND resource >= $2 AND resource < $3",
            repository, prefix, prefix + "\U0010ffff",
        )  # fmt: skip
        return {name: (json.loads(text), set_at) for name, text, set_at in rows}

    async def set_annotations(
        self, repository: int, resource: str, annotations: Mapping[str, str]
    ) -> None:
        now = self._clock()

        async def work(transaction: Transaction) -> None:
            await transaction.execute(
                "INSERT INTO artifact_annotations (repository, resource, annotations, updated_at) "
                "VALUES ($1, $2, $3, $4) ON CONFLICT (repository, resource) "
                "DO UPDATE SET annotations = excluded.annotations, updated_at = excluded.updated_at",
                repository, resource, json.dumps(dict(annotations), ensure_ascii=False), now,
            )  # fmt: skip

        await self._sql.transact(work)

    async def drop_annotations(self, repository: int, prefix: str = "") -> None:
        """Forget those of every resource that begins with *prefix*."""

        async def work(transaction: Transaction) -> None:
            await transaction.execute(
                "DELETE FROM artifact_annotations WHERE repository = $1 AND resource >= $2 AND resource < $3",
                repository, prefix, prefix + "\U0010ffff",
            )  # fmt: skip

        await self._sql.transact(work)

    async def project_settings(self, project: str) -> dict[str, Any]:
        row = await self._sql.fetch_row(
            "SELECT settings FROM artifact_project WHERE project = $1", project
        )
        return {} if row is None else json.loads(row[0])

    async def set_project_settings(self, project: str, settings: Mapping[str, Any]) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute(
                "INSERT INTO artifact_project (project, settings) VALUES ($1, $2) "
                "ON CONFLICT (project) DO UPDATE SET settings = excluded.settings",
                project, json.dumps(dict(settings)),
            )  # fmt: skip

        await self._sql.transact(work)

    async def file_owners(self, repository: int) -> dict[str, list[tuple[str, str]]]:
        """By digest of a blob: image and digest of each manifest of the repository that names it."""
        owners: dict[str, list[tuple[str, str]]] = {}
        for child, image, parent in await self._sql.fetch(
            "SELECT child, image, parent FROM manifest_ref WHERE repository = $1 AND kind = 'blob' "
            "ORDER BY child, image, parent",
            repository,
        ):
            owners.setdefault(child, []).append((image, parent))
        return owners
