"""Secrets by name and version, sealed at rest: where an upstream's password is put before a repository names it.

As much of Secret Manager as Artifact Registry needs: a secret is made by its first version, versions count from 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hakobune.iam.secret_box import SecretBox
from hakobune.registry.errors import ResourceError
from hakobune.state.audit import record
from hakobune.state.sql import Sql, Transaction

MAX_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(r"projects/([^/]+)/secrets/([A-Za-z0-9_-]{1,255})")
_VERSION: Final = re.compile(_NAME.pattern + r"/versions/(latest|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One version; its payload is opened only by `SecretStore.read`."""

    project: str
    secret: str
    version: int
    created_at: int  # microseconds since 1970
    destroyed: bool

    @property
    def name(self) -> str:
        return f"{secret_name(self.project, self.secret)}/versions/{self.version}"


def secret_name(project: str, secret: str) -> str:
    return f"projects/{project}/secrets/{secret}"


class SecretStore:
    """The secrets of all projects."""

    def __init__(self, sql: Sql, box: SecretBox, clock: Callable[[], int]) -> None:
        self._sql = sql
        self._box = box
        self._clock = clock

    async def add(self, name: str, payload: bytes, actor: str) -> SecretVersion:
        """Add a version to the secret of that name, which needs none before.

        Raises:
            ResourceError: INVALID_ARGUMENT for a name that is none, or a payload that is empty or too large.
        """
        project, secret = check_secret_name(name)
        if not 0 < len(payload) <= MAX_BYTES:
            raise ResourceError(
                "INVALID_ARGUMENT",
                f"a secret of {len(payload)} bytes is not kept",
                why=f"it has 1 to {MAX_BYTES} bytes",
            )
        now = self._clock()

        async def work(transaction: Transaction) -> SecretVersion:
            row = await transaction.fetch_row(
                "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM secret_version WHERE project = $1 AND secret = $2",
                project, secret,
            )  # fmt: skip
            added = SecretVersion(project, secret, (row[0] if row else 0) + 1, now, False)
            await transaction.execute(
                "INSERT INTO secret_version (project, secret, version, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
                project, secret, added.version, self._box.seal(payload, place=added.name), now,
            )  # fmt: skip
            await record(transaction, now, actor, "secret.addVersion", added.name, "")
            return added

        return await self._sql.transact(work)

    async def read(self, version_name: str) -> bytes:
        """The payload of `projects/P/secrets/S/versions/V`; V may be `latest`.

        Raises:
            ResourceError: there is none, or it was destroyed.
        """
        found = _VERSION.fullmatch(version_name)
        if found is None:
            raise ResourceError(
                "INVALID_ARGUMENT",
                f"{version_name!r} is no secret's version",
                why="it is projects/PROJECT/secrets/SECRET/versions/VERSION",
            )
        project, secret, version = found.groups()
        rows = await self._sql.fetch(
            "SELECT version, sealed FROM secret_version WHERE project = $1 AND secret = $2 ORDER BY version DESC",
            project, secret,
        )  # fmt: skip
        for number, sealed in rows:
            if version == "latest" or int(version) == number:
                if sealed is None:
                    break
                place = f"{secret_name(project, secret)}/versions/{number}"
                return self._box.open(bytes(sealed), place=place)
        raise ResourceError(
            "NOT_FOUND",
            f"there is no {version_name}",
            why="it was never added, or was destroyed",
            fix=f"hako secrets versions add {secret} --data-file=FILE --project={project}",
        )

    async def versions(self, project: str, secret: str = "") -> tuple[SecretVersion, ...]:
        """All versions (of a secret), by secret, newest first."""
        rows = await self._sql.fetch(
            "SELECT project, secret, version, created_at, sealed IS NULL FROM secret_version "
            "WHERE project = $1 AND (CAST($2 AS TEXT) = '' OR secret = $2) ORDER BY secret, version DESC",
            project, secret,
        )  # fmt: skip
        return tuple(SecretVersion(p, s, v, at, bool(gone)) for p, s, v, at, gone in rows)

    async def destroy(self, project: str, secret: str, version: int, actor: str) -> None:
        """Forget a version's payload for ever.

        Raises:
            ResourceError: NOT_FOUND.
        """
        name = f"{secret_name(project, secret)}/versions/{version}"

        async def work(transaction: Transaction) -> None:
            changed = await transaction.execute(
                "UPDATE secret_version SET sealed = NULL WHERE project = $1 AND secret = $2 AND version = $3",
                project, secret, version,
            )  # fmt: skip
            if not changed:
                raise ResourceError("NOT_FOUND", f"there is no {name}")
            await record(transaction, self._clock(), actor, "secret.destroyVersion", name, "")

        await self._sql.transact(work)

    async def delete(self, project: str, secret: str, actor: str) -> None:
        """Forget a secret with all versions.

        Raises:
            ResourceError: NOT_FOUND.
        """
        name = secret_name(project, secret)

        async def work(transaction: Transaction) -> None:
            changed = await transaction.execute(
                "DELETE FROM secret_version WHERE project = $1 AND secret = $2", project, secret
            )
            if not changed:
                raise ResourceError("NOT_FOUND", f"there is no {name}")
            await record(transaction, self._clock(), actor, "secret.delete", name, "")

        await self._sql.transact(work)


def check_secret_name(name: str) -> tuple[str, str]:
    """Project and secret of a name.

    Raises:
        ResourceError: INVALID_ARGUMENT: it is none.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ResourceError(
            "INVALID_ARGUMENT",
            f"{name!r} is no secret's name",
            why="it is projects/PROJECT/secrets/SECRET, with letters, digits, _ and -",
        )
    return found[1], found[2]
