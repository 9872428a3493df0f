"""The audit trail: who did what to which resource, written in the transaction that does it."""

from __future__ import annotations

from dataclasses import dataclass

from hakobune.state.sql import Sql, Transaction


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One act; `at` is microseconds since 1970, `actor` a member (user:…, serviceAccount:…) or `owner`."""

    id: int
    at: int
    actor: str
    verb: str  # manifest.put, tag.delete, repository.create, policy.set, …
    resource: str
    detail: str


async def record(
    transaction: Transaction, at: int, actor: str, verb: str, resource: str, detail: str = ""
) -> None:
    """Note an act beside what it changes."""
    await transaction.execute(
        "INSERT INTO audit (at, actor, verb, resource, detail) VALUES ($1, $2, $3, $4, $5)",
        at,
        actor,
        verb,
        resource,
        detail,
    )


async def oldest_act(sql: Sql) -> int:
    """When the trail begins, in microseconds since 1970; 0 if nothing is in it."""
    row = await sql.fetch_row("SELECT at FROM audit ORDER BY id LIMIT 1")
    return 0 if row is None else int(row[0])


async def read_audit(
    sql: Sql, *, resource: str = "", before: int = 0, limit: int = 100
) -> tuple[AuditRow, ...]:
    """The last *limit* acts, newest first.

    Args:
        resource: only on this one and what lies below it; "" for all.
        before: only rows with a smaller id (the page before); 0 for the last ones.
    """
    rows = await sql.fetch(
        "SELECT id, at, actor, verb, resource, detail FROM audit "
        "WHERE (CAST($1 AS TEXT) = '' OR resource = $1 OR (resource >= $2 AND resource < $3)) "
        "AND (CAST($4 AS BIGINT) = 0 OR id < $4) ORDER BY id DESC LIMIT $5",
        resource,
        f"{resource}/",
        f"{resource}0",  # the character after /
        before,
        limit,
    )
    return tuple(AuditRow(*row) for row in rows)
