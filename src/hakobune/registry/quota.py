"""How much may be stored: bytes of a repository or a project, and room that is left on the disk in any case."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakobune.registry.errors import RegistryError
from hakobune.registry.repository import Repository
from hakobune.state.audit import record
from hakobune.state.sql import Sql, Transaction

_LEAST_FREE: Final = 1 << 30
_LEAST_FREE_PART: Final = 0.02  # of the disk, if that is less


async def check_quota(transaction: Transaction, repository: Repository) -> None:
    """Refuse what has just been written in *transaction* if it is too much; costs one look-up without a quota.

    Raises:
        RegistryError: DENIED, saying whose quota it is and how full.
    """
    project = f"projects/{repository.project}"
    for resource, limit in await transaction.fetch(
        "SELECT resource, limit_bytes FROM quota WHERE resource = $1 OR resource = $2",
        project,
        repository.resource,
    ):
        if resource == project:
            row = await transaction.fetch_row(_SIZE_OF_A_PROJECT, repository.project)
        else:
            row = await transaction.fetch_row(_SIZE_OF_BLOBS, repository.id)
        used = 0 if row is None else row[0]
        if used > limit:
            raise RegistryError(
                "DENIED",
                f"the quota of {resource} is {limit} bytes, with this it would hold {used}: "
                "delete images there or raise the quota",
                {"resource": resource, "limitBytes": limit, "wouldHoldBytes": used},
            )


async def set_quota(
    sql: Sql, resource: str, limit_bytes: int | None, *, at: int, actor: str
) -> None:
    """Limit the bytes of blobs in `projects/P` or `projects/P/locations/L/repositories/R`; `None`: no limit."""

    async def work(transaction: Transaction) -> None:
        await transaction.execute("DELETE FROM quota WHERE resource = $1", resource)
        if limit_bytes is not None:
            await transaction.execute(
                "INSERT INTO quota (resource, limit_bytes) VALUES ($1, $2)", resource, limit_bytes
            )
        await record(transaction, at, actor, "quota.set", resource, str(limit_bytes))

    await sql.transact(work)


async def read_quota(sql: Sql, resource: str) -> int | None:
    """The limit in bytes."""
    row = await sql.fetch_row("SELECT limit_bytes FROM quota WHERE resource = $1", resource)
    return None if row is None else row[0]


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on a project or a repository, and how much of it is used."""

    resource: str
    limit_bytes: int
    used_bytes: int


async def list_quotas(sql: Sql, project: str) -> tuple[Quota, ...]:
    """The quotas of a project and its repositories, by resource."""
    own = f"projects/{project}"
    found = await sql.fetch(
        "SELECT q.resource, q.limit_bytes, r.id FROM quota q LEFT JOIN repository r ON q.resource = "
        "'projects/' || r.project || '/locations/' || r.location || '/repositories/' || r.name "
        "WHERE q.resource = $1 OR (q.resource >= $2 AND q.resource < $3) ORDER BY q.resource",
        own,
        f"{own}/",
        f"{own}0",  # the character after /
    )
    quotas = []
    for resource, limit, repository in found:
        row = (
            await sql.fetch_row(_SIZE_OF_A_PROJECT, project)
            if resource == own
            else await sql.fetch_row(_SIZE_OF_BLOBS, repository or 0)
        )
        quotas.append(Quota(resource, limit, 0 if row is None else row[0]))
    return tuple(quotas)


def check_room(folder: Path, size_bytes: int) -> None:
    """Refuse to begin what would leave the disk of *folder* with less than 1 GiB, or 2 % if that is less.

    Args:
        size_bytes: how much is to come; 0 if that is not known.

    Raises:
        RegistryError: INSUFFICIENT_STORAGE (507), saying how much is left.
    """
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    floor = min(_LEAST_FREE, int(found.f_blocks * found.f_frsize * _LEAST_FREE_PART))
    if free - size_bytes >= floor:
        return
    raise RegistryError(
        "INSUFFICIENT_STORAGE",
        f"the registry's disk has {free // 1_000_000} MB left, and {floor // 1_000_000} MB are kept free: "
        "nothing more is stored until there is room",
        {"freeBytes": free, "keptFreeBytes": floor},
        retry_after_s=60,
    )


_SIZE_OF_BLOBS: Final = (
    "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM repository_blob WHERE repository = $1"
)
_SIZE_OF_A_PROJECT: Final = (
    "SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM repository_blob b "
    "JOIN repository r ON r.id = b.repository WHERE r.project = $1"
)
