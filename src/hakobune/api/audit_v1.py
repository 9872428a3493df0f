"""The audit trail over REST: `GET /v1/auditEntries`, for the owner alone. Google keeps it in Cloud Logging; the path is ours."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hakobune.api.caller import OWNER_ONLY, permitted
from hakobune.api.resource_paths import ResourceRoute
from hakobune.serving.errors import InvalidArgumentError
from hakobune.state.audit import AuditRow, oldest_act, read_audit
from hakobune.state.sql import Sql

DEFAULT_PAGE = 100
MAX_PAGE = 1000


def audit_v1_routes(sql: Sql, *, kept_days: int) -> list[ResourceRoute]:
    """The one route: `resource` (and all below it), `pageSize`, `pageToken`; newest first.

    The answer says, too, from when on all acts are known (`knownSince`, if any is) and how long they are kept
    (`keptDays`, if not for ever).
    """

    async def list_entries(request: Request) -> Response:
        query = request.query_params
        size = _number(query.get("pageSize", ""), "pageSize") or DEFAULT_PAGE
        before = _number(query.get("pageToken", ""), "pageToken")
        size = min(size, MAX_PAGE)
        rows = await read_audit(
            sql, resource=query.get("resource", ""), before=before, limit=size + 1
        )
        shown = rows[:size]
        document = {"auditEntries": [to_document(row) for row in shown]}
        token = {"nextPageToken": str(shown[-1].id)} if len(rows) > size else {}
        oldest = await oldest_act(sql)
        since = {"knownSince": _timestamp(oldest)} if oldest else {}
        kept = {"keptDays": kept_days} if kept_days else {}
        return JSONResponse({**document, **token, **since, **kept})

    return [ResourceRoute("GET", "/v1/auditEntries", permitted(list_entries, OWNER_ONLY))]


def to_document(row: AuditRow) -> dict[str, str]:
    """An entry as it is sent."""
    return {
        "time": _timestamp(row.at),
        "actor": row.actor,
        "verb": row.verb,
        "resource": row.resource,
        "detail": row.detail,
    }


def _timestamp(at: int) -> str:
    seconds, micros = divmod(at, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micros:06d}Z"


def _number(text: str, field: str) -> int:
    if text and not text.isdecimal():
        raise InvalidArgumentError(f"{text!r} is no number", field=field)
    return int(text or "0")
